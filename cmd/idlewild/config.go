package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func configCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:            "config",
		Usage:           "the settings and where they come from",
		HideHelpCommand: true,
		Flags:           commonFlags(),
		OnUsageError:    usageError,
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return usagef("there is no command %q; see: idlewild config --help", "config "+name)
			}
			return usagef("config needs show; see: idlewild config --help")
		},
		Subcommands: []*cli.Command{
			command(p, &cli.Command{
				Name: "show", Usage: "every setting, its value, and whether that is from a flag, the environment, the file or a default",
			}, 0, 0, configShow),
		},
	}
}

func configShow(k *call) error {
	_, origins, err := k.config()
	if err != nil {
		return err
	}
	return k.answer(origins, func() {
		rows := [][]string{{"SETTING", "VALUE", "FROM"}}
		for _, o := range origins {
			rows = append(rows, []string{o.Key, fmt.Sprintf("%v", o.Value), o.From})
		}
		k.table(rows...)
	})
}
