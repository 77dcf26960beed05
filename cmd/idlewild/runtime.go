package main

import (
	"github.com/urfave/cli/v2"

	"idlewild/node"
)

func runtimeCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:            "runtime",
		Usage:           "what runs AI models on this machine",
		HideHelpCommand: true,
		Flags:           commonFlags(),
		OnUsageError:    usageError,
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return usagef("there is no command %q; see: idlewild runtime --help", "runtime "+name)
			}
			return usagef("runtime needs add or list; see: idlewild runtime --help")
		},
		Subcommands: []*cli.Command{
			command(p, &cli.Command{
				Name: "add", Usage: "install onnxruntime, llama.cpp for language models, or PyTorch for pipelines, in fixed versions held to their hashes", ArgsUsage: "onnx|llm|torch [FILE]",
				Description: "pip fetches the Python package onnxruntime, which carries the library, or llama-cpp-python, whose source\n" +
					"llama.cpp's server is built from with cmake and a C++ compiler; FILE is the package if it is here already.\n" +
					"torch is an environment of its own with PyTorch, transformers and diffusers, made by Python's venv: 3 GB to fetch and\n" +
					"7 GB on disk on Linux, where its packages are for NVIDIA's GPUs too. An interrupted one goes on where it was.\n" +
					"For a GPU install onnxruntime-gpu into a Python environment and name it with the setting onnx.library.",
			}, 1, 2, runtimeAdd),
			command(p, &cli.Command{Name: "list", Usage: "which runtime is used, on what it works, or why there is none"}, 0, 0, runtimeList),
		},
	}
}

func runtimeAdd(k *call) error {
	name := k.Args().First()
	if name != "onnx" && name != "llm" && name != "torch" {
		return usagef("there is no runtime %q; there are onnx, llm and torch", name)
	}
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	if name == "torch" {
		if k.Args().Len() > 1 {
			return usagef("torch takes no file: pip fetches its packages")
		}
		r, err := node.AddTorch(k.Context.Context, cfg, k.err)
		if err != nil {
			return err
		}
		return k.answer(r, func() { k.say("%s works; a running daemon takes it up when it starts next", r.Version) })
	}
	if name == "llm" {
		r, err := node.AddLLM(k.Context.Context, cfg, k.Args().Get(1), k.err)
		if err != nil {
			return err
		}
		return k.answer(r, func() { k.say("llama.cpp %s works; a running daemon takes it up when it starts next", r.Version) })
	}
	r, err := node.AddRuntime(k.Context.Context, cfg, k.Args().Get(1))
	if err != nil {
		return err
	}
	return k.answer(r, func() { k.say("onnxruntime %s works; a running daemon takes it up when it starts next", r.Version) })
}

func runtimeList(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	r, err := node.FindRuntime(k.Context.Context, cfg, nil)
	if err != nil {
		return err
	}
	l, err := node.FindLLM(k.Context.Context, cfg, nil)
	if err != nil {
		return err
	}
	t, err := node.FindTorch(k.Context.Context, cfg, nil)
	if err != nil {
		return err
	}
	return k.answer(struct {
		Runtimes []node.Runtime `json:"runtimes"`
	}{[]node.Runtime{r, l, t}}, func() {
		defer func() {
			if t.Error != "" {
				k.say("pipelines are not run here: %s", oneLine(t.Error))
				return
			}
			k.say("%s", t.Version)
			k.say("in %s", t.Path)
		}()
		defer func() {
			if l.Error != "" {
				k.say("language models are not run here: %s", oneLine(l.Error))
				return
			}
			k.say("llama.cpp %s", l.Version)
			k.say("in %s", l.Path)
		}()
		if r.Error != "" {
			k.say("AI models are not run here: %s", oneLine(r.Error))
			return
		}
		k.say("onnxruntime %s", r.Version)
		k.say("in %s", r.Path)
	})
}
