package main

import (
	"github.com/urfave/cli/v2"

	"idlewild/node"
)

func modelCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:            "model",
		Usage:           "the AI models of this machine",
		HideHelpCommand: true,
		Flags:           commonFlags(),
		OnUsageError:    usageError,
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return usagef("there is no command %q; see: idlewild model --help", "model "+name)
			}
			return usagef("model needs add, list or rm; see: idlewild model --help")
		},
		Subcommands: []*cli.Command{
			command(p, &cli.Command{
				Name: "add", Usage: "copy an ONNX or GGUF model, or a folder of safetensors, here, so that jobs can name it", ArgsUsage: "FILE|FOLDER",
				Description: "It is looked at and not run. Where the setting onnx.models is \"listed\", models that were added are\nthe only ones that run here.",
				Flags:       []cli.Flag{&cli.StringFlag{Name: "as", DefaultText: "the file's", Usage: "call it `NAME`"}},
			}, 1, 1, modelAdd),
			command(p, &cli.Command{Name: "list", Usage: "every model that was added"}, 0, 0, modelList),
			command(p, &cli.Command{Name: "rm", Usage: "forget a model and delete its copy", ArgsUsage: "NAME"}, 1, 1, modelRemove),
		},
	}
}

func modelAdd(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	file, err := absolute(k.Args().First())
	if err != nil {
		return err
	}
	m, err := node.AddModel(cfg, file, k.String("as"))
	if err != nil {
		return err
	}
	return k.answer(m, func() { k.say("added %s, sha256:%s", m.Name, m.SHA256) })
}

// modelsDoc is the document of model list.
type modelsDoc struct {
	Models []node.Model `json:"models"`
}

func modelList(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	list, err := node.Models(cfg)
	if err != nil {
		return err
	}
	if list == nil {
		list = []node.Model{}
	}
	return k.answer(modelsDoc{list}, func() {
		rows := [][]string{{"NAME", "SIZE", "SHA-256", "FILE"}}
		for _, m := range list {
			rows = append(rows, []string{m.Name, bytesText(m.Bytes), m.SHA256[:16], m.File})
		}
		if len(rows) == 1 {
			k.say("no model was added; add one with: idlewild model add FILE.onnx")
			return
		}
		k.table(rows...)
	})
}

func modelRemove(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	m, err := node.RemoveModel(cfg, k.Args().First())
	if err != nil {
		return err
	}
	return k.answer(struct {
		Removed string `json:"removed"`
	}{m.Name}, func() { k.say("removed %s", m.Name) })
}
