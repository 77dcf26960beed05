package main

import (
	"github.com/urfave/cli/v2"

	"idlewild/node/localapi"
)

func peersCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:  "peers",
		Usage: "how the other members are reached and how they stand",
	}, 0, 0, func(k *call) error {
		return withFarm(k, func(c *localapi.Client) (localapi.FarmView, error) {
			return c.Peers(k.Context.Context)
		}, func(v localapi.FarmView) {
			names := map[string]string{}
			for _, m := range v.Members {
				names[m.Peer] = m.Name
			}
			rows := [][]string{{"PEER", "NAME", "", "PATH", "RTT", "STANDING"}}
			for _, m := range v.Members {
				if m.Self {
					continue
				}
				rows = append(rows, []string{m.Peer, m.Name, lastSeen(m), pathText(m.Path, m.Transport, names[m.Via]), rttText(m.RTTMillis), m.Score})
			}
			if len(rows) == 1 {
				if v.ID == "" {
					k.say("no peers: in no farm; join one with: idlewild farm join TICKET")
				} else {
					k.say("no peers: nobody else is in farm %s; let others in with: idlewild farm invite", clean(v.Name))
				}
				return
			}
			k.table(rows...)
		})
	})
}
