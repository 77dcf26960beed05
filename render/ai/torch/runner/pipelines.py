"""The pipelines: a model's folder in, what it makes of an item out."""

import inspect
import json
import math
import os
import pickle

import numpy
import torch

from protocol import Refused


def _no_pickles(*_, **__):
    raise pickle.UnpicklingError("pickles are not loaded here: weights are safetensors")


# Nothing below loads one. Should a library want to, it does not.
torch.load = _no_pickles

import transformers  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

# Every one of these is asked for whatever is loaded.
STRICT = {"local_files_only": True, "trust_remote_code": False}
WEIGHTS = dict(STRICT, use_safetensors=True)


def load(pipeline, folder, device, threads):
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if threads > 0:
        torch.set_num_threads(threads)
    if device == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU that it can use")
    return KINDS[pipeline](folder, torch.device("cuda" if device == "gpu" else "cpu"))


class Pipeline:
    def __init__(self, folder, device):
        self.folder, self.device = folder, device
        with torch.inference_mode():
            self.load()

    def dtype(self):
        # A CPU computes in 32 bits, whatever the weights have.
        return torch.float32 if self.device.type == "cpu" else "auto"

    def auto(self, cls):
        model = cls.from_pretrained(self.folder, torch_dtype=self.dtype(), **WEIGHTS)
        return model.to(self.device).eval()

    def tokenizer(self):
        return transformers.AutoTokenizer.from_pretrained(self.folder, **STRICT)

    def where(self):
        """On what the weights are: asked of them, not of what was wanted."""
        types = {p.device.type for m in self.modules() for p in m.parameters()}
        return "gpu" if types == {"cuda"} else "cpu"

    def modules(self):
        return [self.model]

    def run(self, item, blobs, progress):
        with torch.inference_mode():
            outputs = self.make(item, blobs, progress)
        for name, value in outputs.items():
            if not isinstance(value, (str, list)) and not numpy.isfinite(value).all():
                raise Refused(f"output {name} holds what is no number")
        return outputs


def numbers(*values):
    return numpy.asarray(values, dtype=numpy.float32)


def positions(config, tokenizer):
    """How many tokens a model takes."""
    n = getattr(config, "max_position_embeddings", 0) or getattr(config, "n_positions", 0) or 1 << 20
    if config.model_type in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet"):
        n -= 2  # theirs count from after the padding
    return min(n, tokenizer.model_max_length or n, 1 << 15)


class Embedding(Pipeline):
    def load(self):
        self.tokens = self.tokenizer()
        self.model = self.auto(transformers.AutoModel)
        self.most = positions(self.model.config, self.tokens)
        self.pool = "mean"
        try:
            with open(os.path.join(self.folder, "1_Pooling", "config.json")) as f:
                said = json.load(f)
        except FileNotFoundError:
            return
        for name, pool in (("cls_token", "first"), ("lasttoken", "last"), ("mean_tokens", "mean")):
            if said.get("pooling_mode_" + name):
                self.pool = pool
                break

    def make(self, item, blobs, progress):
        if "tokens" in item:
            ids = item["tokens"]
            if any(not 0 <= t < self.model.config.vocab_size for t in ids):
                raise Refused("a token that the model does not know")
        else:
            ids = self.tokens(item["text"])["input_ids"]
        if not ids:
            raise Refused("the text is empty")
        if len(ids) > self.most:
            raise Refused(f"the text has {len(ids)} tokens, the model takes {self.most}")
        # One by one: what else is asked must not change an answer.
        tokens = torch.tensor([ids], device=self.device)
        states = self.model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0].float()
        v = {"mean": lambda: states.mean(0), "first": lambda: states[0], "last": lambda: states[-1]}[self.pool]()
        v = torch.nn.functional.normalize(v, dim=0)
        return {"embedding": v.cpu().numpy(), "tokens": numbers(len(ids))}


class Writing(Pipeline):
    def load(self):
        self.tokens = self.tokenizer()
        self.model = self.auto(transformers.AutoModelForCausalLM)
        self.most = positions(self.model.config, self.tokens)

    def make(self, item, blobs, progress):
        if "messages" in item:
            if not self.tokens.chat_template:
                raise Refused("the model has no chat template: give it a prompt")
            ids = self.tokens.apply_chat_template(item["messages"], add_generation_prompt=True, tokenize=True)
        else:
            ids = self.tokens(item["prompt"])["input_ids"]
        room = self.most - len(ids)
        if not ids:
            raise Refused("the prompt is empty")
        if room < 1:
            raise Refused(f"the prompt has {len(ids)} tokens, the model takes {self.most} with the answer")
        wanted = min(item["max_tokens"], room)
        how = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if item["temperature"] > 0:
            how = {"do_sample": True, "temperature": item["temperature"], "top_p": item["top_p"], "top_k": 0}
        torch.manual_seed(item["seed"])
        prompt = torch.tensor([ids], device=self.device)
        pad = self.tokens.pad_token_id if self.tokens.pad_token_id is not None else self.tokens.eos_token_id

        class Told(transformers.StoppingCriteria):
            def __call__(self, so_far, scores, **_):
                progress((so_far.shape[1] - len(ids)) / wanted)
                return False

        made = self.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=wanted, num_beams=1, pad_token_id=pad,
            stopping_criteria=transformers.StoppingCriteriaList([Told()]), **how)[0, len(ids):]
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        stopped = len(made) > 0 and int(made[-1]) in ends
        return {
            "text": self.tokens.decode(made, skip_special_tokens=True),
            "finish": "stop" if stopped else "length",
            "tokens": numbers(len(ids), len(made)),
        }


class Drawing(Pipeline):
    def load(self):
        import diffusers  # large, and nobody else's

        diffusers.logging.set_verbosity_error()
        diffusers.logging.disable_progress_bar()
        # The class that the folder names, which is one of the library's own.
        with open(os.path.join(self.folder, "model_index.json")) as f:
            cls = getattr(diffusers, json.load(f)["_class_name"])
        if not issubclass(cls, diffusers.DiffusionPipeline):
            raise ValueError("the folder names what is no pipeline")
        dtype = torch.float32 if self.device.type == "cpu" else torch.float16
        self.model = cls.from_pretrained(self.folder, torch_dtype=dtype, **WEIGHTS).to(self.device)
        self.model.set_progress_bar_config(disable=True)
        self.takes = inspect.signature(self.model.__call__).parameters

    def modules(self):
        return [m for m in self.model.components.values() if isinstance(m, torch.nn.Module)]

    def make(self, item, blobs, progress):
        # Noise is drawn on the CPU: it is the same on every device.
        noise = torch.Generator("cpu").manual_seed(item["seed"])
        how = {
            "prompt": item["prompt"], "negative_prompt": item.get("negative_prompt"), "width": item["width"], "height": item["height"],
            "num_inference_steps": item["steps"], "guidance_scale": item.get("guidance"), "generator": noise, "output_type": "np",
        }
        how = {k: v for k, v in how.items() if v is not None and k in self.takes}
        if "callback_on_step_end" in self.takes:
            def step(_, i, __, values):
                progress((i + 1) / (item["steps"] + 1))
                return values

            how["callback_on_step_end"] = step
        picture = numpy.asarray(self.model(**how).images[0], dtype=numpy.float32)
        if picture.shape != (item["height"], item["width"], 3):
            raise Refused(f"the model makes a picture of {picture.shape[1]}x{picture.shape[0]} pixels, not {item['width']}x{item['height']}")
        return {"image": picture}


RATE = 16000  # samples of a second that models of speech take
LONGEST = 4 * 3600


def resample(x, have, want):
    """Samples of another rate, by a windowed sinc."""
    g = math.gcd(have, want)
    have, want = have // g, want // g
    if have == want:
        return x
    reach, base = 6, min(have, want) * 0.99
    width = math.ceil(reach * have / base)
    if want * (2 * width + have) > 1 << 24:  # rates that have nothing in common
        n = max(1, len(x) * want // have)
        return torch.nn.functional.interpolate(x[None, None], size=n, mode="linear")[0, 0]
    at = torch.arange(-width, width + have, dtype=torch.float64)[None] / have
    t = ((torch.arange(0, -want, -1, dtype=torch.float64) / want)[:, None] + at) * base
    t = t.clamp(-reach, reach)
    window = torch.cos(t * math.pi / reach / 2) ** 2
    kernel = torch.sinc(t) * window * (base / have)
    y = torch.nn.functional.pad(x[None, None], (width, width + have))
    y = torch.nn.functional.conv1d(y, kernel[:, None].float(), stride=have)
    return y.transpose(1, 2).reshape(-1)[: math.ceil(want * len(x) / have)]


class Transcription(Pipeline):
    def load(self):
        self.processor = transformers.AutoProcessor.from_pretrained(self.folder, **STRICT)
        self.model = self.auto(transformers.WhisperForConditionalGeneration)
        self.seconds = self.processor.feature_extractor.chunk_length

    def make(self, item, blobs, progress):
        import soundfile

        how = {}
        if self.model.generation_config.to_dict().get("is_multilingual"):
            how = {k: item[k] for k in ("language", "task") if item.get(k)}
        try:
            sound = soundfile.SoundFile(item["audio"])
        except soundfile.LibsndfileError as e:
            raise Refused(f"it is no sound that is understood: {e.error_string}") from None
        with sound:
            rate, frames, channels = sound.samplerate, sound.frames, sound.channels
            if not (1000 <= rate <= 768000 and 0 < frames <= LONGEST * rate and 1 <= channels <= 64):
                raise Refused(f"{frames} samples at {rate} a second in {channels} channels; at most {LONGEST // 3600} hours are taken")
            texts, times, tokens = [], [], 0
            step = self.seconds * rate
            for at in range(0, frames, step):
                piece = sound.read(step, dtype="float32", always_2d=True)
                if not len(piece):
                    break
                mono = torch.from_numpy(numpy.ascontiguousarray(piece.mean(1)))
                mono = resample(mono, rate, RATE)
                features = self.processor(mono.numpy(), sampling_rate=RATE, return_tensors="pt", return_attention_mask=True)
                made = self.model.generate(
                    features.input_features.to(self.device, self.model.dtype), attention_mask=features.attention_mask.to(self.device),
                    do_sample=False, num_beams=1, **how)
                texts.append(self.processor.batch_decode(made, skip_special_tokens=True)[0].strip())
                times.append([at / rate, min(at + len(piece), frames) / rate])
                progress(min(1, (at + step) / frames))
        return {"text": " ".join(t for t in texts if t), "segments": texts, "times": numbers(*times)}


class DepthMap(Pipeline):
    def load(self):
        self.processor = transformers.AutoImageProcessor.from_pretrained(self.folder, use_fast=False, **STRICT)
        self.model = self.auto(transformers.AutoModelForDepthEstimation)

    def make(self, item, blobs, progress):
        w, h = item["width"], item["height"]
        pixels = numpy.frombuffer(blobs[item["image"]], dtype=numpy.uint8).reshape(h, w, 3)
        given = self.processor(images=pixels, return_tensors="pt").to(self.device, self.model.dtype)
        depth = self.model(**given).predicted_depth.float()
        depth = torch.nn.functional.interpolate(depth[None] if depth.dim() == 3 else depth, size=(h, w), mode="bilinear", align_corners=False)
        depth = depth.reshape(h, w)
        low, high = depth.min(), depth.max()
        # What such models say is known up to a scale.
        return {"depth": ((depth - low) / (high - low).clamp(min=1e-12)).cpu().numpy()}


KINDS = {
    "text-embedding": Embedding, "text-generation": Writing, "text-to-image": Drawing, "transcription": Transcription, "depth": DepthMap,
}
