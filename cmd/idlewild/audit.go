package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"idlewild/node/localapi"
)

func auditCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:      "audit",
		Usage:     "who was given the content of this machine's jobs",
		ArgsUsage: "[JOB]",
		Description: "Each line is a right to read a job's files that a machine was given with a piece of work. It is in the log before\n" +
			"the machine hears of it. The log is bounded: what is oldest goes.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "peer", Usage: "only what `PEER` was given"},
			&cli.DurationFlag{Name: "since", DefaultText: "all", Usage: "only of the last `TIME`"},
			&cli.IntFlag{Name: "limit", Usage: "the newest `N`; 0: all", Value: 1000},
		},
	}, 0, 1, audit)
}

func audit(k *call) error {
	q := localapi.AuditQuery{Peer: k.String("peer"), Limit: k.Int("limit")}
	if q.Limit < 0 || q.Limit > 1e6 {
		return usagef("--limit is %d; it may be 0 to 1000000", q.Limit)
	}
	if k.IsSet("since") {
		if k.Duration("since") <= 0 {
			return usagef("--since is %v; say how far back, as 24h", k.Duration("since"))
		}
		q.Since = time.Now().Add(-k.Duration("since"))
	}
	if k.NArg() > 0 {
		id, err := k.jobArg(0)
		if err != nil {
			return err
		}
		q.Job = id
	}
	return withFarm(k, func(c *localapi.Client) (localapi.AuditView, error) {
		return c.Audit(k.Context.Context, q)
	}, func(v localapi.AuditView) { sayAudit(k, v) })
}

func sayAudit(k *call, v localapi.AuditView) {
	if v.Found == 0 {
		k.say("no other machine was given anything")
	} else {
		rows := [][]string{{"GIVEN", "UNTIL", "PEER", "NAME", "JOB", "CONTENT"}}
		for _, e := range v.Entries {
			root := "results of its tasks"
			if len(e.Roots) > 0 {
				root = e.Roots[0]
			}
			rows = append(rows, []string{e.At.Local().Format(time.DateTime), e.Expires.Local().Format(time.DateTime), e.Peer, e.Name, string(e.Job), root})
		}
		k.table(rows...)
	}
	if n := v.Found - len(v.Entries); n > 0 {
		k.say("%s before these; all of them: idlewild audit --limit 0", plural(n, "entry", "entries"))
	}
	if v.Damaged > 0 {
		k.say("%s could not be read, below %s", plural(v.Damaged, "line", "lines"), v.Folder)
	}
}

func plural(n int, one, more string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, more)
}
