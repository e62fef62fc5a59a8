"""Second players: critics, the games they play, and what keeps them smooth."""

