"""Trains the 2x upscaler on the pictures of pictures.py and writes ONNX.

python train.py PICTURES MODEL.onnx [--steps N] [--log FILE]

A plain convolutional network after ESPCN (Shi et al., CVPR 2016): five 3x3
convolutions at the small size, pixel shuffle, and the nearest neighbour's
picture added, so that only what that lacks is learnt. Every eighth picture is
kept from training; on those it must beat bicubic.

Needs torch, numpy and Pillow. The same pictures, steps and version of torch
give the same weights on one machine.
"""
import argparse
import inspect
import json
import pathlib
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

WIDTH, DEPTH, PATCH, BATCH = 40, 5, 32, 8


class Upscaler(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = [3] + [WIDTH] * (DEPTH - 1) + [12]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(sizes, sizes[1:]))
        nn.init.normal_(self.convs[-1].weight, std=1e-3)
        nn.init.zeros_(self.convs[-1].bias)

    def forward(self, image):
        x = image
        for conv in self.convs[:-1]:
            x = F.relu(conv(x))
        return F.pixel_shuffle(self.convs[-1](x), 2) + F.interpolate(image, scale_factor=2.0, mode="nearest")


def small(picture):
    """What the network is given of a picture: each 2x2 pixels averaged, in
    the 8 bits of a file."""
    h, w = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    p = picture[:h, :w].reshape(h // 2, 2, w // 2, 2, 3).mean((1, 3))
    return np.rint(p * 255).astype(np.float32) / 255


def planes(picture):
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]


def psnr(a, b):
    return float(-10 * np.log10(np.mean((np.clip(a, 0, 1) - b) ** 2) + 1e-12))


def bicubic(picture):
    h, w, _ = picture.shape
    channels = [Image.fromarray(picture[..., c]).resize((2 * w, 2 * h), Image.BICUBIC) for c in range(3)]
    return np.stack([np.asarray(c) for c in channels], -1)


def judge(net, kept):
    net.eval()
    ours, theirs = [], []
    with torch.no_grad():
        for big in kept:
            little = small(big)
            want = big[:2 * little.shape[0], :2 * little.shape[1]]
            ours.append(psnr(net(planes(little))[0].numpy().transpose(1, 2, 0), want))
            theirs.append(psnr(bicubic(little), want))
    net.train()
    return float(np.mean(ours)), float(np.mean(theirs))


def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("pictures", type=pathlib.Path)
    a.add_argument("model", type=pathlib.Path)
    a.add_argument("--steps", type=int, default=4000)
    a.add_argument("--threads", type=int, default=1)
    a.add_argument("--log", type=pathlib.Path)
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    files = sorted(a.pictures.glob("*.png"))
    if len(files) < 16:
        sys.exit(f"{a.pictures}: {len(files)} pictures, needs at least 16; make them with pictures.py")
    pictures = [np.asarray(Image.open(f).convert("RGB"), np.float32) / 255 for f in files]
    kept = pictures[::8]
    learnt = [p for i, p in enumerate(pictures) if i % 8]
    pairs = [(small(p), p) for p in learnt]
    net = Upscaler()
    size = sum(p.numel() for p in net.parameters())
    adam = torch.optim.Adam(net.parameters(), 1e-3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(adam, a.steps, 1e-5)
    log, start = [], time.time()

    def say(**line):
        line["seconds"] = round(time.time() - start, 1)
        log.append(line)
        print(json.dumps(line), flush=True)
        if a.log:
            a.log.write_text("".join(json.dumps(x) + "\n" for x in log))

    say(parameters=size, learnt=len(learnt), kept=len(kept), steps=a.steps, torch=torch.__version__)
    total = 0.0
    for step in range(1, a.steps + 1):
        xs, ys = [], []
        for _ in range(BATCH):
            little, big = pairs[rng.integers(len(pairs))]
            y, x = rng.integers(little.shape[0] - PATCH + 1), rng.integers(little.shape[1] - PATCH + 1)
            p, q = little[y:y + PATCH, x:x + PATCH], big[2 * y:2 * (y + PATCH), 2 * x:2 * (x + PATCH)]
            turn, flip = rng.integers(4), rng.integers(2)
            p, q = np.rot90(p, turn), np.rot90(q, turn)
            if flip:
                p, q = p[:, ::-1], q[:, ::-1]
            xs.append(planes(p))
            ys.append(planes(q))
        loss = F.mse_loss(net(torch.cat(xs)), torch.cat(ys))
        adam.zero_grad()
        loss.backward()
        adam.step()
        rates.step()
        total += float(loss.detach())
        if step % 500 == 0 or step == a.steps:
            ours, theirs = judge(net, kept)
            say(step=step, loss=round(total / (step % 500 or 500), 6), psnr_db=round(ours, 2), bicubic_db=round(theirs, 2))
            total = 0.0
    net.eval()
    options = {"opset_version": 13, "input_names": ["image"], "output_names": ["upscaled"],
               "dynamic_axes": {n: {0: "n", 2: h, 3: w} for n, h, w in (("image", "h", "w"), ("upscaled", "h2", "w2"))}}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False
    torch.onnx.export(net, torch.rand(1, 3, 16, 24), str(a.model), **options)
    say(model=a.model.name, bytes=a.model.stat().st_size)


main()
