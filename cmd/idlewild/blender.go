package main

import (
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"idlewild/node"
	"idlewild/render/blender"
	"idlewild/render/blender/install"
)

// blenderFlag is named as the program that it chooses, which is the kind's name
// as well.
const blenderFlag = string(blender.Name)

func blenderCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:            blenderFlag,
		Usage:           "the Blenders of this machine",
		HideHelpCommand: true,
		Flags:           commonFlags(),
		OnUsageError:    usageError,
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return usagef("there is no command %q; see: idlewild blender --help", "blender "+name)
			}
			return usagef("blender needs list, add or remove; see: idlewild blender --help")
		},
		Subcommands: []*cli.Command{
			command(p, &cli.Command{
				Name: "list", Usage: "every Blender that jobs can be rendered with here, and what is wrong with others",
			}, 0, 0, blenderList),
			command(p, &cli.Command{
				Name: "add", Usage: "register a Blender, or a Python whose environment has the package bpy, or download a Blender", ArgsUsage: "PATH|VERSION",
				Description: "A version, as 4.5 or 4.5.4, is downloaded from blender.mirror, if its hash is known here or in blender.releases;\n" +
					"what was cut off is gone on with. The program is started to see that it works. A daemon takes it up when it\n" +
					"starts next.",
			}, 1, 1, blenderAdd),
			command(p, &cli.Command{
				Name: "remove", Usage: "forget a Blender that was added; its files stay", ArgsUsage: "PATH",
			}, 1, 1, blenderRemove),
		},
	}
}

// blendersDoc is the document of blender list.
type blendersDoc struct {
	Blenders []blender.Program `json:"blenders"`
}

func blenderList(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	list, err := node.Blenders(k.Context.Context, cfg)
	if err != nil {
		return err
	}
	if list == nil {
		list = []blender.Program{}
	}
	return k.answer(blendersDoc{list}, func() {
		rows := [][]string{{"BUILD", "ENGINES", "DENOISERS", "PROGRAM"}}
		for _, b := range list {
			if b.Error == "" {
				rows = append(rows, []string{b.Build, strings.Join(b.Engines, ","), strings.Join(b.Denoisers, ","), b.Path})
			}
		}
		if len(rows) > 1 {
			k.table(rows...)
		} else {
			k.say("there is no Blender that works; add one with: idlewild blender add PATH")
		}
		for _, b := range list {
			if b.Error != "" {
				k.say("not used: %s", oneLine(b.Error))
			}
		}
	})
}

func blenderAdd(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	name := k.Args().First()
	var b blender.Program
	if _, there := os.Stat(name); there != nil && install.IsVersion(name) {
		l := k.newLoading("Blender " + name)
		b, err = node.InstallBlender(k.Context.Context, cfg, name, l.show)
		l.close()
	} else {
		b, err = node.AddBlender(k.Context.Context, cfg, name)
	}
	if err != nil {
		return err
	}
	return k.answer(b, func() { k.say("added Blender %s; a running daemon takes it up when it starts next", b.Build) })
}

func blenderRemove(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	if err := node.RemoveBlender(cfg, k.Args().First()); err != nil {
		return err
	}
	return k.answer(struct {
		Removed string `json:"removed"`
	}{k.Args().First()}, func() { k.say("removed") })
}
