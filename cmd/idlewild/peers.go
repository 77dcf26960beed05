package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"idlewild/node/localapi"
)

func peersCommand(p *program) *cli.Command {
	c := command(p, &cli.Command{
		Name:  "peers",
		Usage: "how the other members are reached and how they stand",
		Subcommands: []*cli.Command{
			command(p, &cli.Command{
				Name: "pardon", Usage: "end a ban of a peer, and tell the members so", ArgsUsage: "PEER",
				Flags: []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "why, for the record"}},
			}, 1, 1, peersPardon),
			command(p, &cli.Command{
				Name: "ban", Usage: "give a peer no work of this machine", ArgsUsage: "PEER",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "reason", Usage: "why; the peer is told"},
					&cli.DurationFlag{Name: "for", Usage: "end it after `TIME`; 0: until a pardon"},
				},
			}, 1, 1, peersBan),
		},
	}, 0, 0, func(k *call) error {
		return withFarm(k, func(c *localapi.Client) (localapi.FarmView, error) {
			return c.Peers(k.Context.Context)
		}, func(v localapi.FarmView) { tellPeers(k, v) })
	})
	return c
}

func tellPeers(k *call, v localapi.FarmView) {
	names := map[string]string{}
	for _, m := range v.Members {
		names[m.Peer] = m.Name
	}
	rows := [][]string{{"PEER", "NAME", "", "PATH", "RTT", "CHECKED", "CREDIT", "STAKE", "STANDING"}}
	all := append(slices.Clone(v.Members), v.Strangers...)
	for _, m := range all {
		if m.Self {
			continue
		}
		s := m.Standing
		rows = append(rows, []string{
			m.Peer, m.Name, lastSeen(m), pathText(m.Path, m.Transport, names[m.Via]), rttText(m.RTTMillis), fmt.Sprintf("%.0f %%", 100*s.Rate), creditText(s.Credit), creditText(s.Stake), m.Score,
		})
	}
	if len(rows) == 1 {
		defer tellCrowd(k, v)
		if v.ID == "" {
			k.say("no peers: in no farm; join one with: idlewild farm join TICKET")
		} else if v.Stranger {
			k.say("no member of farm %s is reached yet: %s", clean(v.Name), openText(v))
		} else {
			k.say("no peers: nobody else is in farm %s; let others in with: idlewild farm invite", clean(v.Name))
		}
		return
	}
	k.table(rows...)
	if text := openText(v); text != "" {
		k.say("%s", text)
	}
	tellCrowd(k, v)
	for _, m := range all {
		if m.Apart != "" {
			k.say("%s", clean(m.Apart))
		}
		if m.Standing.Banned != "" {
			k.say("%s gets no work; if that is a mistake: idlewild peers pardon %s", clean(m.Name), m.Peer)
		}
	}
}

// tellCrowd says what became of strangers.
func tellCrowd(k *call, v localapi.FarmView) {
	if v.Crowd != nil {
		k.say("%s", clean(v.Crowd.Text))
	}
}

// creditText is credit for people: the time of a CPU.
func creditText(seconds float64) string {
	if seconds == 0 {
		return ""
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

func peersPardon(k *call) error {
	return withFarm(k, func(c *localapi.Client) (localapi.FarmView, error) {
		return c.Pardon(k.Context.Context, k.Args().First(), k.String("reason"))
	}, func(v localapi.FarmView) {
		k.say("%s may work for this machine again; what was found about it stays, and its results are checked by that", clean(k.Args().First()))
	})
}

func peersBan(k *call) error {
	if d := k.Duration("for"); d < 0 || d > maxBan {
		return usagef("--for is %v; it may be up to %dh, or 0 for a ban until a pardon", d, int(maxBan.Hours()))
	}
	return withFarm(k, func(c *localapi.Client) (localapi.FarmView, error) {
		return c.Ban(k.Context.Context, k.Args().First(), k.String("reason"), k.Duration("for"))
	}, func(v localapi.FarmView) {
		k.say("%s gets no work of this machine; end that with: idlewild peers pardon %s", clean(k.Args().First()), clean(k.Args().First()))
	})
}

// maxBan is what the door takes.
const maxBan = 365 * 24 * time.Hour
