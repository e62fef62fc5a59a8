"""Work whose pieces may fail one by one: a picture that cannot be drawn must not cost the model that it shows."""

from __future__ import annotations




