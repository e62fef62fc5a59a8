"""The language: how a part is named, registered and combined into a recipe."""

