"""The same network in eager PyTorch: answers timing requests on standard input. Needs torch."""

import json
import sys
import time

import numpy as np
import torch
from torch.nn import functional


def energy(w, sigma):
    """phi(y) of a batch, as neb_ppl's NeuralEnergy without a data scale."""
    body = unet(w) if "down.kernel" in w else mlp(w)
    c = 1 / (1 + sigma**2) ** 0.5

    def phi(y):
        residual = y - (c**2 * y + sigma * c * body(c * y))
        return (residual**2).sum(1) / (2 * sigma**2)

    return phi


def dense(w, name, h):
    return h @ w[f"{name}.kernel"] + w[f"{name}.bias"]


def mlp(w):
    """neb_ppl.energies.networks.MLPModule."""
    blocks = sum(name.endswith("inner.kernel") for name in w)

    def body(z):
        h = dense(w, "enter", z)
        for i in range(blocks):
            inner = functional.silu(dense(w, f"blocks.{i}.inner", h))
            h = h + dense(w, f"blocks.{i}.outer", inner)
        return dense(w, "leave", h)

    return body


def unet(w):
    """neb_ppl.energies.networks.UNetModule with one block a stage, channels first."""

    def point(name, h):
        return functional.conv2d(h, w[f"{name}.kernel"].T[..., None, None], w[f"{name}.bias"])

    def block(name, h):
        kernel = w[f"{name}.inner.kernel"].permute(3, 2, 0, 1)
        inner = functional.conv2d(h, kernel, w[f"{name}.inner.bias"], padding=1)
        return h + point(f"{name}.outer", functional.silu(inner))

    def bottleneck(h):
        z = point("bottleneck.down", h)
        flat = z.permute(0, 2, 3, 1).flatten(1)
        inner = functional.silu(dense(w, "bottleneck.block.inner", flat))
        flat = dense(w, "bottleneck.block.outer", inner)
        z = flat.reshape(len(z), *z.shape[2:], -1).permute(0, 3, 1, 2)
        return h + point("bottleneck.up", z)

    def body(z):
        side = int(z.shape[1] ** 0.5)
        h = point("enter", fold(z.reshape(len(z), 1, side, side)))
        skip = block("first.0", h)
        h = point("down", fold(skip))
        h = block("after.0", bottleneck(block("before.0", h)))
        h = block("last.0", skip + unfold(point("up", h)))
        return unfold(point("leave", h)).flatten(1)

    return body


def fold(h):
    """Space to depth, the position in the square before the channel."""
    n, c, height, width = h.shape
    h = h.reshape(n, c, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return h.reshape(n, 4 * c, height // 2, width // 2)


def unfold(h):
    n, c, height, width = h.shape
    h = h.reshape(n, 2, 2, c // 4, height, width).permute(0, 3, 4, 1, 5, 2)
    return h.reshape(n, c // 4, 2 * height, 2 * width)


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
    phi = energy(weights, sigma)
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
    phi = energy(w, sigma)
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
