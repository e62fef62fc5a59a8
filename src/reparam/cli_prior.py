"""The command `fit-prior`: a better prior for a model that has been trained."""

from __future__ import annotations

from pathlib import Path

from .cli import app, print_json
from .cli_options import Device, Json


@app.command
def fit_prior(run: str, /, *, prior: str = "flow_matching", resampler: str | None = None, minutes: float | None = None,
              steps: int | None = None, device: Device = "auto", json: Json = False) -> None:
    """Fit a prior to the codes of a trained model, for better samples; its encoder and decoder stay as they are.

    It replaces the one that was fitted before, and figures, pictures and report are made anew.

    Parameters
    ----------
    run
        A run's folder.
    prior
        mixture(n), flow, spline_flow, autoregressive_flow or flow_matching; for integer codes autoregressive; none to
        sample from the model's own prior.
    resampler
        Network that then learns to choose among the prior's draws, such as "resnet(32)", or none; by default as the run was
        trained.
    minutes
        Time for each that learns step by step: the resampler, and all priors but mixture; 2 by default.
    steps
        Steps instead of minutes.
    """
    from .finish import refit
    from .reporting import Silent, for_this_terminal

    done = refit(run, prior, resampler=resampler, minutes=minutes, steps=steps, device=device,
                 report=Silent() if json else for_this_terminal())
    samples = Path(run) / "samples.png"
    if json:
        print_json({"run": run, "prior": done.facts["fitted_prior"], "resampler": done.facts["resampler"],
                    "samples": str(samples)})
    else:
        fitted = done.facts["fitted_prior"]
        done_is = f"fitted {fitted}" if fitted else "its own prior is used again"
        print(f"{done_is}; {samples} and {Path(run) / 'report.html'} show what it gives")
