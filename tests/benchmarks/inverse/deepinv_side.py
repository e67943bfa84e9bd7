"""deepinv's samplers, answering requests on standard input. Needs deepinv and torch, not neb_ppl.

One JSON line asks, one answers. A problem is a file: operator, noise, observations, and the prior
as a mixture or as the weights of a network. Draws go to a file.
"""

import json
import sys
import time
import warnings

import numpy as np
import torch

NMS = ["nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
       "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"]  # fmt: skip
KEPT = 2_000  # draws of one chain that are kept, evenly spaced: more than are independent
START_NOISE = 0.3


def import_deepinv():
    """deepinv, also where torchvision was built for another torch and lacks its operators."""
    try:
        import deepinv
    except RuntimeError:
        for name in list(sys.modules):
            if name.split(".")[0] in ("torchvision", "deepinv"):
                del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in NMS:
            library.define(operator)
        import deepinv

        deepinv._operators = library  # or they are undone
    return deepinv


dinv = import_deepinv()


class MixtureDenoiser(dinv.models.Denoiser):
    """E[X | Y = y] of a Gaussian mixture: two products with all eigenvectors."""

    def __init__(self, stored):
        super().__init__()
        vectors = torch.tensor(stored["eigenvectors"])  # (k, d, d), columns
        self.k, d, _ = vectors.shape
        self.basis = vectors.permute(1, 0, 2).reshape(d, -1).contiguous()
        self.means = torch.tensor(stored["means"])
        self.turned = torch.einsum("kd,kde->ke", self.means, vectors).reshape(-1)
        self.eigenvalues = torch.tensor(stored["eigenvalues"])
        self.log_weights = torch.tensor(stored["log_weights"])

    def forward(self, x, sigma, **kwargs):
        s2 = level(sigma) ** 2
        y = x.flatten(1)
        z = (y @ self.basis - self.turned).unflatten(1, (self.k, -1))
        smoothed = self.eigenvalues + s2
        log_joint = self.log_weights - 0.5 * ((z**2 / smoothed).sum(2) + smoothed.log().sum(1))
        r = log_joint.softmax(1)
        pulled = (r[..., None] * (self.eigenvalues / smoothed) * z).flatten(1)
        return (r @ self.means + pulled @ self.basis.T).reshape(x.shape)


class NetworkDenoiser(dinv.models.Denoiser):
    """``y - sigma^2 grad phi(y)`` of neb_ppl's noise-conditional MLP, from its weights."""

    def __init__(self, stored):
        super().__init__()
        prefix = "network."
        self.w = {
            k.removeprefix(prefix): torch.tensor(v)
            for k, v in stored.items()
            if k.startswith(prefix)
        }
        self.blocks = sum(name.endswith("inner.kernel") for name in self.w)
        self.shift, self.scale = float(stored["data_shift"]), float(stored["data_scale"])
        self.low, self.high = (float(bound) for bound in stored["sigma_range"])

    def dense(self, name, h):
        return h @ self.w[f"{name}.kernel"] + self.w[f"{name}.bias"]

    def energy(self, y, sigma):
        """phi of a batch, summed."""
        u, sigma = (y - self.shift) / self.scale, sigma / self.scale
        c = 1 / (1 + sigma**2) ** 0.5
        phases = 0.7 * torch.arange(1.0, 5.0) * np.log(sigma)
        noise = self.dense("embedding.dense", torch.cat([phases.sin(), phases.cos()]))
        noise = torch.nn.functional.silu(noise)
        h = self.dense("enter", c * u)
        for i in range(self.blocks):
            gain, offset = self.dense(f"blocks.{i}.film", noise).chunk(2)
            inner = self.dense(f"blocks.{i}.inner", h) * (1 + gain) + offset
            h = h + self.dense(f"blocks.{i}.outer", torch.nn.functional.silu(inner))
        residual = u - (c**2 * u + sigma * c * self.dense("leave", h))
        return 0.5 * (residual**2).sum() / sigma**2

    def forward(self, x, sigma, **kwargs):
        sigma = min(max(level(sigma), self.low), self.high)
        y = x.flatten(1)
        score = torch.func.grad(lambda y: self.energy(y, sigma))(y)
        return (y - sigma**2 * score).reshape(x.shape)


def level(sigma):
    """One number of the many shapes that deepinv gives its noise levels."""
    return float(torch.as_tensor(sigma).reshape(-1)[0])


class Stored:
    """A problem file: observations of one operator, the operator and a denoiser for deepinv."""

    def __init__(self, path, rows=None):
        stored = dict(np.load(path))
        self.stored = stored
        self.shape = tuple(int(size) for size in stored["shape"])
        self.size = int(np.prod(self.shape))
        self.unit, self.noise = float(stored["unit"]), float(stored["noise"])
        observations = torch.tensor(stored["observations"])[:, None, None, :]
        self.observations = observations if rows is None else observations[rows]
        kind = NetworkDenoiser if "sigma_range" in stored else MixtureDenoiser
        self.denoiser = kind(stored).eval()
        self.physics = physics(torch.tensor(stored["matrix"]), self.noise, self.shape)
        self.norm = float(self.physics.mask.max())

    def repeated(self, copies):
        """Each observation `copies` times, one after another."""
        return self.observations.repeat_interleave(copies, 0)


def physics(matrix, noise, shape):
    """The operator by its singular values, so that deepinv's closed forms are exact."""
    u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=True)
    m, d = matrix.shape
    u, v = u.float(), vt.T.float().contiguous()
    values = torch.zeros(d)
    values[: len(s)] = s.float()
    image = (1, *((1,) * (2 - len(shape))), *shape)

    def to_data(z):
        return (z.flatten(1)[:, :m] @ u.T.to(z.dtype))[:, None, None, :]

    def from_data(y):
        z = torch.zeros(len(y), d, dtype=y.dtype)
        z[:, :m] = y.flatten(1) @ u.to(y.dtype)
        return z.reshape(-1, *image)

    def turned(basis):
        return lambda x: (x.flatten(1) @ basis.to(x.dtype)).reshape(-1, *image)

    return dinv.physics.DecomposablePhysics(
        U=to_data, U_adjoint=from_data, V=turned(v.T), V_adjoint=turned(v),
        mask=values.reshape(1, *image), noise_model=dinv.physics.GaussianNoise(noise),
        img_size=image,
    )  # fmt: skip


def langevin(problem, setting, chains, seconds):
    """ULA or SKROCK until the time is over; the first fifth of it is burn-in.

    deepinv puts the state it starts from into its chain: ``get_chain()[1:]`` leaves it out.
    """
    y = problem.repeated(chains)
    sigma = setting["sigma"] * problem.unit
    lipschitz = (problem.norm / problem.noise) ** 2 + 1 / sigma**2
    tuning = {"sigma": sigma, "alpha": 1.0, "step_size": setting["step"] / lipschitz}
    if setting["method"] == "SKROCK":
        tuning |= {"inner_iter": setting["inner"], "eta": 0.05}
    name = {"ULA": "ULA", "SKROCK": "SKRock"}[setting["method"]]
    fidelity = dinv.optim.data_fidelity.L2(sigma=problem.noise)
    prior = dinv.optim.ScorePrior(problem.denoiser)

    def steps(x, count, thinning, keep):
        sampler = dinv.sampling.sampling_builder(
            name, fidelity, prior, tuning, max_iter=count, burnin_ratio=0.0, thinning=thinning,
            history_size=keep, clip=None,
        )  # fmt: skip
        sampler.sample(y, problem.physics, x_init=x)
        return [state["x"] for state in sampler.get_chain()]

    started = time.perf_counter()
    x = problem.physics.A_adjoint(y)
    x = x + START_NOISE * problem.unit * torch.randn_like(x)
    taken = 0
    while time.perf_counter() - started < 0.2 * seconds:
        x = steps(x, 5, 1, 1)[-1]
        taken += 5
    rate = taken / (time.perf_counter() - started)
    thinning = max(1, int(0.8 * seconds * rate / KEPT))
    kept = []
    while not kept or time.perf_counter() - started < seconds:
        kept += steps(x, 10 * thinning, thinning, True)[1:]
        x = kept[-1]
    spent = time.perf_counter() - started
    draws = torch.stack(kept).reshape(len(kept), -1, chains, problem.size)
    return draws.permute(1, 2, 0, 3), spent


def fidelity_of(setting):
    """The approximation of p(data | x_t)."""
    sampling, weight = dinv.sampling, setting.get("weight", 1.0)
    return {
        "ALD": lambda: sampling.ALDDataFidelity(weight=weight),
        "DPS norm": lambda: sampling.DPSDataFidelity(weight=weight, guidance="norm"),
        "DPS annealed": lambda: sampling.DPSDataFidelity(weight=weight, guidance="annealed"),
        "PiGDM": lambda: sampling.PiGDMDataFidelity(weight=weight),
        "MomentMatching": lambda: sampling.MomentMatchingDataFidelity(
            weight=weight, cg_max_iter=setting["cg"]
        ),
    }[setting["method"]]()


def reverse_diffusion(problem, setting):
    """Variance exploding, ancestral (alpha = 1), noise levels in the problem's own units."""
    sde = dinv.sampling.VarianceExplodingDiffusion(
        sigma_min=0.01 * problem.unit, sigma_max=setting["sigma_max"] * problem.unit, alpha=1.0,
        denoiser=problem.denoiser, minus_one_one=False,
    )  # fmt: skip
    solver = dinv.sampling.AncestralSolver(t_start=1.0, t_end=0.0, num_steps=setting["steps"] + 1)
    model = dinv.sampling.PosteriorDiffusion(
        data_fidelity=fidelity_of(setting), denoiser=problem.denoiser, sde=sde, solver=solver,
        minus_one_one=False,
    )  # fmt: skip
    image = problem.physics.img_size

    def run(y):
        with torch.no_grad():
            return model(y, problem.physics, x_init=(len(y), *image))

    return run


def ddrm(problem, setting):
    levels = np.geomspace(setting["sigma_max"], 0.01, setting["steps"]) * problem.unit
    model = dinv.sampling.DDRM(
        problem.denoiser, sigmas=levels, eta=setting["eta"], etab=setting["etab"]
    )
    return lambda y: model(y, problem.physics)


def diffpir(problem, setting):
    model = dinv.sampling.DiffPIR(
        problem.denoiser, dinv.optim.data_fidelity.L2(), sigma=problem.noise,
        max_iter=setting["steps"], zeta=setting["zeta"], lambda_=setting["lambda"],
    )  # fmt: skip
    return lambda y: model(y, problem.physics)


def independent(problem, setting, draws, seconds):
    """Batches of independent draws, until there are enough or the time is over."""
    build = {"DDRM": ddrm, "DiffPIR": diffpir}.get(setting["method"], reverse_diffusion)
    run = build(problem, setting)
    rows = len(problem.observations)
    copies = max(1, min(draws, setting.get("batch", 512) // rows))
    y = problem.repeated(copies)
    started, kept = time.perf_counter(), []
    while len(kept) * copies < draws and time.perf_counter() - started < seconds * rows:
        kept.append(run(y.clone()).detach().reshape(rows, copies, 1, problem.size))
    return torch.cat(kept, 1), time.perf_counter() - started


def answer(request):
    """Versions, denoised points, or draws of shape (observations, chains, draws, d)."""
    if request["what"] == "versions":
        return {"torch": torch.__version__, "deepinv": dinv.__version__}
    problem = Stored(request["problem"], request.get("rows"))
    if request["what"] == "denoise":
        points = torch.tensor(problem.stored["points"]).reshape(-1, *problem.physics.img_size)
        with torch.no_grad():
            out = [problem.denoiser(points, s).flatten(1).numpy() for s in request["sigmas"]]
        np.savez(request["out"], denoised=np.stack(out))
        return {}
    torch.manual_seed(request["seed"])
    setting = request["setting"]
    wall, cpu = time.perf_counter(), time.process_time()
    if setting["method"] in ("ULA", "SKROCK"):
        draws, seconds = langevin(problem, setting, request["chains"], request["seconds"])
    else:
        draws, seconds = independent(problem, setting, request["draws"], request["seconds"])
    cores = (time.process_time() - cpu) / (time.perf_counter() - wall)
    np.savez(request["out"], draws=draws.to(torch.float32).numpy())
    return {"seconds": seconds, "cores": cores}


def main():
    warnings.simplefilter("ignore")
    out, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(int(sys.argv[1]))
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # the driver records it and goes on
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=out, flush=True)


if __name__ == "__main__":
    main()
