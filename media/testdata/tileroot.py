"""Prints the root of the image in TestTileRootIsAsDocumented, written from the text of TileRoot alone."""
import hashlib
import struct

W, H, NAN = 65, 2, struct.unpack("<f", struct.pack("<I", 0x7FC00000))[0]
channels = {"b": [0.0] * (W * H), "a": [0.0] * (W * H)}
channels["b"][:3] = [1.0, 2.0, 3.0]
channels["a"][64] = NAN


def u32(*v):
    return struct.pack("<%dI" % len(v), *v)


leaves = b""
for y in range(0, H, 64):
    for x in range(0, W, 64):
        w, h = min(64, W - x), min(64, H - y)
        text = b"idlewild tile 1\0" + u32(x, y, w, h)
        for name in sorted(channels):
            text += u32(len(name)) + name.encode()
            for row in range(y, y + h):
                for v in channels[name][row * W + x:row * W + x + w]:
                    text += u32(0x7FC00000) if v != v else struct.pack("<f", v)
        leaves += hashlib.sha256(text).digest()
print(hashlib.sha256(b"idlewild pixels 1\0" + u32(W, H, len(channels)) + leaves).hexdigest())
