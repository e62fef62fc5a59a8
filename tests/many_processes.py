"""Trains by one, two and four processes, each of which takes its rows of the same batches, and keeps what comes of it.

    python tests/many_processes.py FOLDER

It is a program of its own, which imports everything once and then forks: an import in each process would cost ten times what
they compute. Noise is a function of the row that it is for, in all processes.
"""

from __future__ import annotations

import multiprocessing.connection
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator

from reparam.distributions.gaussian import Gaussian
from reparam.models.build import build_model
from reparam.models.posteriors.quantized import Codebook
from reparam.objectives.adversaries.build import build_adversary
from reparam.objectives.objective import parse_objective
from reparam.parallel import SingleProcess, drawing_apart, in_company
from reparam.parts.recipe import Recipe
from reparam.trainer import exchange
from reparam.trainer.budget import Budget, Optimization
from reparam.trainer.loop import training
from reparam.trainer.tasks import ModelTask

SHAPE, BATCH, STEPS = (1, 6, 6), 16, 6
MODEL = {"encoder": "conv(width=8)", "decoder": "conv(width=8)", "latent": "flat(4)"}
GAME = {"adversary": "images('reconstructions')", "critic": "conv(width=4)", "game": "hinge(2)",
        "penalty": "10*r1 + 0.3*lecam"}
CASES = {
    "plain": {},
    "accumulate": {"accumulate": 2},
    "adversary": {**GAME, "objective": "nll + kl + late(3, 0.3, 0.1)*adversarial(0.5)"},
    "adversary in pieces": {**GAME, "objective": "nll + kl + 3*adversarial", "accumulate": 2, "penalty": "none"},
    "codes": {"adversary": "codes", "critic": "mlp(hidden=(8,))", "objective": "nll + adversarial"},
    "vq": {"posterior": "vq(8, dim=2, revive=0.0)", "prior": "uniform", "objective": "nll + 0.25*commitment + entropy"},
    "unused": {"posterior": "vq(8, dim=2, decay=0.0, revive=0.0)", "prior": "uniform", "objective": "nll + commitment"},
    "tc": {"objective": "nll + mi + 6*tc + dwkl('mws')"},
    "mmd": {"objective": "nll + 100*mmd"},
    "rate": {"objective": "nll + target_rate(3)*kl"},
    "moments": {"objective": "nll + free_bits(0.5) + 3*capacity(4) + 2*dip + layer_balanced_kl(0.9) + 0.1*latent_noise"},
}
"""What is the same by one process and by two."""
BY_FOUR = ("plain", "accumulate", "adversary", "vq", "tc", "mmd")
"""Of these, what four try as well."""
OTHERS = {
    "introspective": {"adversary": "introspective", "objective": "nll + kl + adversarial"},
    "dcgan": {"encoder": "none", "decoder": "dcgan(8)", "likelihood": "implicit", "adversary": "images",
              "critic": "dcgan(8)", "objective": "adversarial"},
    "revived": {"posterior": "vq(8, dim=2, revive=0.9)", "prior": "uniform", "objective": "nll + commitment"},
}
"""What draws by itself in each process, and has to leave all of them with the same weights."""
place = (0, 1)
"""Number of this process, and of all."""


def rows_of_noise(shape, *_, axis=1, **__):
    """Standard normal numbers of this process's rows, out of those of all."""
    rank, processes = place
    whole = [n * processes if i == axis else n for i, n in enumerate(shape)]
    return torch.randn(whole, generator=torch.Generator().manual_seed(len(whole)))[
        tuple(slice(rank, None, processes) if i == axis else slice(None) for i in range(len(whole)))]


def rsample(self, shape=()):
    return self.loc + (0.5 * self.log_var).exp() * rows_of_noise((*shape, *self.loc.shape))


def noise(self, n):
    return rows_of_noise((n, self.loc.numel()), axis=0)


def task_of(fields):
    torch.manual_seed(5)
    recipe = Recipe(**{**MODEL, **fields})
    model = build_model(recipe, SHAPE)
    return recipe, ModelTask(model, parse_objective(recipe.objective), build_adversary(recipe, model, SHAPE),
                             dataset_size=100)


def batches():
    images = torch.rand(STEPS, BATCH, *SHAPE, generator=torch.Generator().manual_seed(1)) ** 2
    rank, processes = place
    return [x[rank::processes] for x in images]


def learned(state):
    sides = [side for side in (state.side, state.critic) if side is not None]
    return [p for side in sides for flat in side.flats for p in flat.parameters]


def trained(fields, processes, *, start=0, resume=None):
    """Gradients of each step, and losses and weights after the last."""
    recipe, task = task_of(fields)
    recipe = recipe.but(optimizer="adamw(lr=1e-3)", schedule="constant", ema=0.5)
    gradients, losses = [], []
    for state in training(task, batches()[start:], Budget(steps=STEPS), Optimization.of(recipe), accelerator=processes,
                          resume=resume):
        gradients.append([p.grad.clone() for p in learned(state) if p.grad is not None])
        losses.append([state.loss, state.critic_loss, state.grad_norm])
        if state.step == 2:
            saved = state.snapshot()
    weights = {k: v.clone() for k, v in state.tensors().items() if k.startswith(("model", "critic.", "ema"))}
    return {"gradients": gradients, "losses": torch.tensor(losses), "weights": weights, "images": state.images,
            "adaptive": state.weights}, saved if not start else None


def agree(state):
    """Whether all processes have the same weights."""
    mine = torch.cat([p.detach().flatten() for p in learned(state)])
    all_of_them = [torch.empty_like(mine) for _ in range(place[1])]
    dist.all_gather(all_of_them, mine)
    return all(torch.equal(each, mine) for each in all_of_them) and bool(mine.isfinite().all())


def others(processes):
    found = {}
    for name, fields in OTHERS.items():
        recipe, task = task_of(fields)
        for state in training(task, batches(), Budget(steps=STEPS), Optimization.of(recipe), accelerator=processes):
            pass
        found[name] = agree(state)
    return found


def draws(processes):
    """Random numbers of each process in a region of its own, and what all have before and after it."""
    torch.manual_seed(3)
    with drawing_apart(processes):
        own = torch.rand(2)
    drawn = [None] * place[1]
    dist.all_gather_object(drawn, [own.tolist(), torch.rand(2).tolist()])
    return drawn


def codebooks(processes):
    """A codebook that each process shows vectors of its own, and those of all, with and without codes that move."""
    torch.manual_seed(4)
    vectors, start = torch.randn(place[1], 30, 3), Codebook(8, 3, decay=0.9, revive=0.0).eval()
    codes = [start(each)[0] for each in vectors]
    books = []
    for revive in (0.0, 0.9):
        book = Codebook(8, 3, decay=0.9, revive=revive)
        book.load_state_dict(start.state_dict())
        with drawing_apart(processes), in_company(processes):
            book.learn(vectors[place[0]], codes[place[0]])
        books.append(book.state_dict())
    start.learn(vectors.flatten(0, 1), torch.cat(codes))
    return {"vectors": vectors, "whole": start.state_dict(), "shared": books[0], "revived": books[1]}


def exchanges(fields, processes):
    """How often gradients are sent in a step."""
    counted, send = [], exchange._compressed

    def counting(group, bucket):
        counted.append(bucket.index())
        return send(group, bucket)

    exchange._compressed = counting
    trained({**fields, "compress_gradients": True}, processes)
    exchange._compressed = send
    return len(counted) / STEPS


def work(rank, processes, folder, saved):
    global place
    place = rank, processes
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT="29500")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting{processes}", rank=rank, world_size=processes)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == processes
    cases = CASES if processes == 2 else {name: CASES[name] for name in BY_FOUR}
    found = {name: trained(fields, accelerator)[0] for name, fields in cases.items()}
    found["compressed"] = trained({"compress_gradients": True}, accelerator)[0]
    found["resumed"] = trained(CASES["adversary"], accelerator, start=2, resume=saved)[0]
    if processes == 2:
        found["exchanges"] = exchanges(CASES["accumulate"], accelerator)
    Gaussian.rsample, Gaussian.noise, torch.randn_like = DRAWN
    found["draws"], found["codebooks"] = draws(accelerator), codebooks(accelerator)
    if processes == 2:
        found["others"] = others(accelerator)
    if rank == 0:
        torch.save(found, folder / f"{processes}.pt")
    dist.destroy_process_group()


DRAWN = Gaussian.rsample, Gaussian.noise, torch.randn_like


def main(folder):
    torch.set_num_threads(1)
    Gaussian.rsample, Gaussian.noise, torch.randn_like = rsample, noise, lambda t: rows_of_noise(t.shape)
    alone = SingleProcess(torch.device("cpu"))
    found, states = {}, {}
    for name, fields in CASES.items():
        found[name], states[name] = trained(fields, alone)
    torch.save(found, folder / "1.pt")
    context = multiprocessing.get_context("fork")
    for processes in (2, 4):
        workers = [context.Process(target=work, args=(rank, processes, folder, states["adversary"]))
                   for rank in range(processes)]
        for worker in workers:
            worker.start()
        multiprocessing.connection.wait([worker.sentinel for worker in workers], timeout=100)  # the first to end or fail
        for worker in workers:
            worker.join(10)
            worker.kill()
        if any(worker.exitcode != 0 for worker in workers):
            sys.exit(f"of {processes} processes some failed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
