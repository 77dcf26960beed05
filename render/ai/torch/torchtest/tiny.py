"""Makes tiny models with random weights for tests, one folder each:
python tiny.py FOLDER. Nothing is fetched."""

import os
import sys

import numpy
import soundfile
import tokenizers
import torch
import transformers

to = sys.argv[1]
torch.manual_seed(1)
LETTERS = "abcdefghijklmnopqrstuvwxyz .,?!0123456789"


def words(special, **names):
    """A tokenizer of letters."""
    vocab = {t: i for i, t in enumerate(special + list(LETTERS))}
    t = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token=special[0]))
    t.normalizer = tokenizers.normalizers.Lowercase()
    t.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    t.decoder = tokenizers.decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=t, unk_token=special[0], **names)


def save(name, *parts):
    for p in parts:
        p.save_pretrained(os.path.join(to, name))


def bert():
    t = words(["[UNK]", "[PAD]"], pad_token="[PAD]", model_max_length=64)
    c = transformers.BertConfig(vocab_size=len(t), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, max_position_embeddings=64)
    save("tiny-bert", transformers.BertModel(c), t)


def gpt():
    t = words(["<unk>", "<end>"], eos_token="<end>", model_max_length=128)
    t.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}. {% endfor %}"
    c = transformers.GPT2Config(vocab_size=len(t), n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=1)
    save("tiny-gpt", transformers.GPT2LMHeadModel(c), t)


def clip(name):
    """CLIP's tokenizer wants pieces of words: bytes, and no merges."""
    b = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {t: i for i, t in enumerate(b + [x + "</w>" for x in b] + ["<|startoftext|>", "<|endoftext|>"])}
    os.makedirs(name, exist_ok=True)
    import json

    with open(os.path.join(name, "vocab.json"), "w") as f:
        json.dump(vocab, f)
    with open(os.path.join(name, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n")
    return transformers.CLIPTokenizer(os.path.join(name, "vocab.json"), os.path.join(name, "merges.txt"), model_max_length=77)


def diffusion():
    import diffusers

    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, in_channels=4, out_channels=4, cross_attention_dim=32, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    # As a real one's, the latents are eight times as small as the picture.
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 32, 32, 32), in_channels=3, out_channels=3, latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, sample_size=64)
    t = clip(os.path.join(to, ".clip"))
    ends = {"bos_token_id": t.bos_token_id, "eos_token_id": t.eos_token_id, "pad_token_id": t.eos_token_id}
    text = transformers.CLIPTextModel(transformers.CLIPTextConfig(
        vocab_size=len(t), hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=77, **ends))
    save("tiny-sd", diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=t, unet=unet, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        scheduler=diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1)))


def whisper():
    vocab = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"] + list(LETTERS)
    t = words(vocab[:3], eos_token="<|endoftext|>", bos_token="<|endoftext|>", pad_token="<|endoftext|>", model_max_length=64)
    extractor = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=2)
    c = transformers.WhisperConfig(
        vocab_size=len(t), num_mel_bins=8, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=37, decoder_ffn_dim=37, max_source_positions=100, max_target_positions=40, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None)
    m = transformers.WhisperForConditionalGeneration(c)
    m.generation_config.update(max_length=24, suppress_tokens=None, begin_suppress_tokens=None, pad_token_id=0, eos_token_id=0, decoder_start_token_id=1,
                               no_timestamps_token_id=2, is_multilingual=False)
    save("tiny-whisper", m)
    # The processor's classes are Whisper's, and so is its tokenizer: its own
    # vocabulary is bytes, as those of CLIP without ends of words.
    b = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    import json

    at = os.path.join(to, ".whisper")
    os.makedirs(at, exist_ok=True)
    names = vocab[:3] + b
    names = names[:len(t)]
    with open(os.path.join(at, "vocab.json"), "w") as f:
        json.dump({n: i for i, n in enumerate(names)}, f)
    with open(os.path.join(at, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n")
    tok = transformers.WhisperTokenizer(os.path.join(at, "vocab.json"), os.path.join(at, "merges.txt"), model_max_length=64)
    save("tiny-whisper", transformers.WhisperProcessor(extractor, tok))


def depth():
    c = transformers.DPTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=37, image_size=64, patch_size=16, is_hybrid=False,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[16, 16, 32, 32], fusion_hidden_size=32, readout_type="project")
    processor = transformers.DPTImageProcessor(size={"height": 64, "width": 64}, do_rescale=True, do_normalize=True)
    save("tiny-depth", transformers.DPTForDepthEstimation(c), processor)


def sounds():
    at = os.path.join(to, "sounds")
    os.makedirs(at, exist_ok=True)
    for name, rate, seconds in (("a.wav", 44100, 3), ("b.flac", 16000, 1)):
        t = numpy.arange(int(rate * seconds)) / rate
        x = 0.5 * numpy.sin(2 * numpy.pi * 440 * t * (1 + 0.2 * t))
        soundfile.write(os.path.join(at, name), numpy.stack([x, x / 2], 1) if name == "a.wav" else x, rate)


for make in (bert, gpt, diffusion, whisper, depth, sounds):
    make()
