package main

import (
	"github.com/urfave/cli/v2"

	"idlewild/node"
	"idlewild/node/localapi"
)

func gpusCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:  "gpus",
		Usage: "the devices of this machine that can work, and why others cannot",
	}, 0, 0, func(k *call) error {
		cfg, _, err := k.config()
		if err != nil {
			return err
		}
		devices, reason, err := node.Gpus(k.Context.Context, cfg)
		if err != nil {
			return err
		}
		if devices == nil {
			devices = []localapi.DeviceView{}
		}
		return k.answer(gpusDoc{devices, reason}, func() {
			rows := [][]string{{"DEVICE", "TYPE", "MODEL", "MEMORY", "CLASS", ""}}
			for _, d := range devices {
				memory := ""
				if d.MemoryBytes > 0 {
					memory = bytesText(d.MemoryBytes)
				}
				rows = append(rows, []string{d.Name, d.Type, d.Model, memory, d.Class, d.Doing})
			}
			k.table(rows...)
			if reason != "" {
				k.say("%s", clean(reason))
			}
		})
	})
}

// gpusDoc is the document of gpus.
type gpusDoc struct {
	Devices []localapi.DeviceView `json:"devices"`
	Reason  string                `json:"reason,omitempty"` // why there is no GPU among them
}
