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
			return usagef("blender needs one of list, add, remove, share, unshare, allow; see: idlewild blender --help")
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
			command(p, &cli.Command{
				Name: "share", Usage: "let members fetch a Blender of this machine, and print its root", ArgsUsage: "[VERSION|BUILD|PATH]",
				Description: "The folder of the Blender is stored as a tree that is known by its root: whoever allows that root with\n" +
					"idlewild blender allow gets these files and no others. Members fetch it where a job needs this Blender.",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "list", Usage: "only say what is shared"}},
			}, 0, 1, blenderShare),
			command(p, &cli.Command{
				Name: "unshare", Usage: "let members fetch it no more", ArgsUsage: "ROOT",
			}, 1, 1, blenderUnshare),
			command(p, &cli.Command{
				Name: "allow", Usage: "have a Blender fetched from members once a job needs it", ArgsUsage: "ROOT",
				Description: "ROOT is what idlewild blender share printed on a machine whose owner you trust: programs from it run here. It\n" +
					"is added to blender.trees, which a running daemon reads by itself.",
			}, 1, 1, blenderAllow),
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

func blenderShare(k *call) error {
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := k.Context.Context
	if k.Bool("list") {
		if k.Args().Len() > 0 {
			return usagef("blender share --list takes no name")
		}
		list, err := client.SharedBlenders(ctx)
		if err != nil {
			return err
		}
		return k.answer(list, func() {
			if len(list) == 0 {
				k.say("no Blender is shared")
				return
			}
			rows := [][]string{{"BUILD", "SYSTEM", "SIZE", "ROOT"}}
			for _, s := range list {
				rows = append(rows, []string{s.Build, s.System, bytesText(s.Bytes), s.Root})
			}
			k.table(rows...)
		})
	}
	s, err := client.ShareBlender(ctx, k.Args().First())
	if err != nil {
		return err
	}
	return k.answer(s, func() {
		k.say("members may fetch Blender %s for %s: %d files, %s", s.Build, s.System, s.Files, bytesText(s.Bytes))
		k.say("on a machine that is to have it: idlewild blender allow %s", s.Root)
	})
}

func blenderUnshare(k *call) error {
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	root := k.Args().First()
	if err := client.UnshareBlender(k.Context.Context, root); err != nil {
		return err
	}
	return k.answer(struct {
		Unshared string `json:"unshared"`
	}{root}, func() { k.say("members fetch it no more; who has it keeps it") })
}

func blenderAllow(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	root := k.Args().First()
	if err := node.AllowTree(cfg, root); err != nil {
		return err
	}
	return k.answer(struct {
		Allowed string `json:"allowed"`
	}{root}, func() { k.say("allowed: it is fetched from a member that shares it once a job needs it") })
}
