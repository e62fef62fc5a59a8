"""The command `fit-prior`: a better prior for a model that has been trained."""

from __future__ import annotations

from pathlib import Path

from .app import TRAINING, app, print_json
from .options import Device, Json


@app.command(group=TRAINING)
def fit_prior(run: str, data: str | None = None, /, *, prior: str = "flow_matching", resampler: str | None = None,
              minutes: float | None = None, steps: int | None = None, device: Device = "auto", json: Json = False) -> None:
    """Fit a prior to the codes of a trained model, for better samples; its encoder and decoder stay as they are.

    It replaces the one that was fitted before, and figures, pictures and report are made anew.

    Parameters
    ----------
    run
        A run's folder, or that of a model alone.
    data
        Images to whose codes it is fitted, for a model without its run; a run has its own.
    prior
        mixture(n), riemannian, two_stage, flow, spline_flow, autoregressive_flow or flow_matching; for integer codes
        autoregressive; none to sample from the model's own prior.
    resampler
        Network that then learns to choose among the prior's draws, such as "resnet(32)", or none; by default as the run was
        trained.
    minutes
        Time for each that learns step by step: the resampler, and all priors but mixture and riemannian; 2 by default.
    steps
        Steps instead of minutes.
    """
    from ..progress import Silent, for_this_terminal, tell
    from ..runs.keeping import fit_prior as fit

    made = fit(run, prior, data, resampler=resampler, minutes=minutes, steps=steps, device=device,
               report=Silent() if json else for_this_terminal()).config
    shown = [str(Path(run) / name) for name in ("samples.png", "report.html") if (Path(run) / name).exists()]
    if json:
        print_json({"run": run, "prior": made.fitted_prior, "resampler": made.stages.get("resampler"),
                    "samples": next(iter(shown), None)})
    else:
        done = f"fitted {made.fitted_prior}" if made.fitted_prior else "its own prior is used again"
        tell(f"{done}; {' and '.join(shown)} show what it gives" if shown else done)
