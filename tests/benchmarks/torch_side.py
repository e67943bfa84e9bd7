"""The same network in eager PyTorch: answers timing requests on standard input. Needs torch."""

import json
import sys
import time

import numpy as np
import torch
from torch.nn import functional


def network(w, conditional_sigma):
    """phi(y) of the residual MLP, for a batch: as neb_ppl.energies.networks.MLPModule."""
    blocks = sum(name.endswith("inner.kernel") for name in w)
    c = 1 / (1 + conditional_sigma**2) ** 0.5

    def phi(y):
        z = c * y
        h = z @ w["enter.kernel"] + w["enter.bias"]
        for i in range(blocks):
            inner = h @ w[f"blocks.{i}.inner.kernel"] + w[f"blocks.{i}.inner.bias"]
            h = (
                h
                + functional.silu(inner) @ w[f"blocks.{i}.outer.kernel"]
                + w[f"blocks.{i}.outer.bias"]
            )
        body = h @ w["leave.kernel"] + w["leave.bias"]
        residual = y - (c**2 * y + conditional_sigma * c * body)
        return (residual**2).sum(1) / (2 * conditional_sigma**2)

    return phi


def score(phi, y, create_graph=False):
    y = y if create_graph else y.detach()
    y.requires_grad_(True)
    value = phi(y)
    return value.detach(), -torch.autograd.grad(value.sum(), y, create_graph=create_graph)[0]


def ula(phi, y, steps, h):
    _, s = score(phi, y)
    for _ in range(steps):
        y = y.detach() + h * s + (2 * h) ** 0.5 * torch.randn_like(y)
        _, s = score(phi, y)


def mala(phi, y, steps, h):
    value, s = score(phi, y)
    for _ in range(steps):
        new = y.detach() + h * s + (2 * h) ** 0.5 * torch.randn_like(y)
        new_value, new_s = score(phi, new)
        new = new.detach()
        forward = ((new - y.detach() - h * s) ** 2).sum(1)
        backward = ((y.detach() - new - h * new_s) ** 2).sum(1)
        accept = torch.rand(len(y)).log() < value - new_value + (forward - backward) / (4 * h)
        y = torch.where(accept[:, None], new, y.detach())
        s = torch.where(accept[:, None], new_s, s)
        value = torch.where(accept, new_value, value)


def train(w, sigma, x, steps):
    weights = {name: leaf.clone().requires_grad_(True) for name, leaf in w.items()}
    phi = network(weights, sigma)
    optimizer = torch.optim.Adam(weights.values(), lr=1e-3)
    for _ in range(steps):
        y = x + sigma * torch.randn_like(x)
        _, s = score(phi, y, create_graph=True)
        loss = ((x - y - sigma**2 * s) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(weights.values()), 1.0)
        optimizer.step()


def answer(request):
    """Seconds of one request, or the score at given points."""
    w = {k: torch.tensor(v) for k, v in np.load(request["weights"]).items() if k != "points"}
    sigma = request["sigma"]
    phi = network(w, sigma)
    points = torch.tensor(np.load(request["weights"])["points"])
    if request["what"] == "score":
        return score(phi, points)[1].tolist()
    y = points[torch.arange(request["batch"]) % len(points)].clone()
    started = time.perf_counter()
    if request["what"] == "train":
        train(w, sigma, y, request["steps"])
    else:
        {"ULA": ula, "MALA": mala}[request["what"]](phi, y, request["steps"], sigma**2 / 8)
    return time.perf_counter() - started


def main():
    torch.set_num_threads(int(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
