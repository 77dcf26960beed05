"""The program that runs PyTorch models: frames of requests on standard input,
frames of answers on what was standard output. Models are data: safetensors
from a folder, classes of the libraries only, nothing from a network."""

import os
import sys

import protocol


def build():
    """Which libraries there are; none is loaded for it."""
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "diffusers", "safetensors"))


def look():
    """Which libraries there are, and on what they work. The large ones are not
    loaded: this is asked whenever a daemon starts."""
    said = build()
    import torch

    return {"build": said, "devices": ["cpu"] + (["gpu"] if torch.cuda.is_available() else [])}


class Program:
    def __init__(self, say):
        self.say = say
        self.model = None

    def answer(self, head, blobs):
        op = head.get("op")
        if op == "echo":  # tests of the frames, without the libraries
            return {"echo": head.get("echo")}, blobs
        if op == "look":
            return look(), ()
        if op == "load":
            import pipelines

            self.model = None
            self.model = pipelines.load(head["pipeline"], head["folder"], head["device"], head.get("threads", 0))
            return {"device": self.model.where(), "build": build()}, ()
        if op == "run":
            if self.model is None:
                raise ValueError("no model is loaded")
            return self.run(head["items"], blobs)
        raise ValueError(f"operation {op!r}")

    def run(self, items, blobs):
        results, out = [], []
        for i, item in enumerate(items):
            def progress(share, i=i):
                self.say({"progress": (i + share) / len(items)})

            try:
                outputs = self.model.run(item, blobs, progress)
            except protocol.Refused as e:
                results.append({"error": str(e)})
                continue
            except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as e:
                results.append({"error": f"{type(e).__name__}: {e}"[:2000]})
                continue
            named = {}
            for name, value in outputs.items():
                if isinstance(value, (str, list)):
                    named[name] = {"text": value}
                else:
                    named[name] = {"shape": list(value.shape), "blob": len(out)}
                    out.append(value.astype("<f4").tobytes())
            results.append({"outputs": named})
        return {"results": results}, out


def main():
    # Whatever prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    asked = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    program = Program(lambda head: protocol.write(answers, head))
    while True:
        try:
            head, blobs = protocol.read(asked)
        except protocol.Ended:
            return
        try:
            answer, out = program.answer(head, blobs)
        except Exception as e:  # it is an answer as well: the process stays
            import traceback

            traceback.print_exc()
            answer, out = {"error": f"{type(e).__name__}: {e}"[:4000]}, ()
        protocol.write(answers, answer, out)


if __name__ == "__main__":
    sys.modules["main"] = sys.modules["__main__"]
    main()
