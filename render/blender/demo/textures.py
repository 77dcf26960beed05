# SPDX-License-Identifier: Apache-2.0
"""The demo's image textures: plain Python, one pixel at a time."""

import math
import os
import random

import bpy


def picture(folder, name, size, pixel):
    """Writes a picture to folder/textures and loads it from there."""
    image = bpy.data.images.new(name, size, size)
    px = [0.0] * (size * size * 4)
    for y in range(size):
        for x in range(size):
            i = 4 * (y * size + x)
            px[i : i + 3] = pixel(x / size, y / size)
            px[i + 3] = 1.0
    image.pixels.foreach_set(px)
    image.filepath_raw = os.path.join(folder, "textures", name + ".png")
    image.file_format = "PNG"
    image.save()
    bpy.data.images.remove(image)
    image = bpy.data.images.load(os.path.join(folder, "textures", name + ".png"))
    image.filepath = "//textures/%s.png" % name
    return image


def noise(seed, cells):
    """Value noise that tiles: a function of u, v in 0..1."""
    rng = random.Random(seed)
    grid = [[rng.random() for _ in range(cells)] for _ in range(cells)]

    def at(u, v):
        x, y = u * cells, v * cells
        i, j = int(x) % cells, int(y) % cells
        fx, fy = x - int(x), y - int(y)
        fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
        a, b = grid[j][i], grid[j][(i + 1) % cells]
        c, d = grid[(j + 1) % cells][i], grid[(j + 1) % cells][(i + 1) % cells]
        return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy

    return at


def mix(a, b, t):
    return [p * (1 - t) + q * t for p, q in zip(a, b)]


def wood(folder):
    """Five boards with grain along v."""
    fine, slow, tone = noise(1, 64), noise(2, 6), noise(3, 16)
    light, dark = (0.62, 0.37, 0.19), (0.30, 0.15, 0.07)

    def pixel(u, v):
        board = int(u * 5)
        along = (v + board * 0.37) % 1.0
        bend = 0.05 * slow((u * 0.5 + board * 0.31) % 1, along)
        rings = math.sin((u * 5 % 1.0 + bend * 4 + tone(u, along) * 0.25) * 34 + board * 9)
        t = 0.5 + 0.32 * rings + 0.35 * (fine(u, (along * 0.12) % 1) - 0.5)
        color = mix(light, dark, min(max(t, 0), 1))
        shade = (0.86, 1.0, 0.78, 0.94, 0.84)[board]
        gap = min(u * 5 % 1, 1 - u * 5 % 1)
        shade *= 0.35 if gap < 0.012 else 1.0
        return [c * shade for c in color]

    return picture(folder, "wood", 512, pixel)


def tiles(folder):
    """Glazed tiles of a backsplash: a star in every second one."""
    cloud = noise(4, 24)

    def pixel(u, v):
        n = 6
        x, y = u * n % 1 - 0.5, v * n % 1 - 0.5
        if max(abs(x), abs(y)) > 0.475:
            return (0.62, 0.58, 0.52)
        i, j = int(u * n), int(v * n)
        base = mix((0.08, 0.27, 0.33), (0.12, 0.38, 0.42), cloud(u, v))
        if (i + j) % 2:
            angle, r = math.atan2(y, x), math.hypot(x, y)
            star = 0.30 + 0.09 * math.cos(8 * angle)
            if r < star:
                base = (0.87, 0.82, 0.70) if r > star * 0.45 else (0.80, 0.40, 0.16)
            elif r < star + 0.035:
                base = (0.04, 0.13, 0.17)
        return base

    return picture(folder, "tiles", 384, pixel)


def label(folder):
    """The band around the jar: stripes, dots and a frame."""

    def pixel(u, v):
        x = u * 12 % 1 - 0.5
        if v < 0.1 or v > 0.9:
            return (0.06, 0.10, 0.20)
        if v < 0.17 or v > 0.83:
            return (0.83, 0.58, 0.17)
        y = (v - 0.5) * 3.2
        r = math.hypot(x, y)
        if r < 0.19:
            return (0.78, 0.16, 0.10)
        if r < 0.30:
            return (0.93, 0.89, 0.80)
        return mix((0.10, 0.20, 0.36), (0.13, 0.26, 0.46), 1.0 if int(u * 96) % 2 else 0.0)

    return picture(folder, "label", 384, pixel)


def scratches(folder):
    """Roughness of brushed metal."""
    a, b = noise(5, 128), noise(6, 8)
    return picture(folder, "brushed", 256, lambda u, v: [0.16 + 0.26 * a((u * 0.1) % 1, v) + 0.12 * b(u, v)] * 3)
