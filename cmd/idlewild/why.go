package main

import (
	"maps"
	"slices"

	"github.com/urfave/cli/v2"

	"idlewild/node/localapi"
)

func whyCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:  "why",
		Usage: "what decides now whether this machine works for others",
		Description: "Per device: whether it may work, the signal that decides, and what would decide next. With --json everything\n" +
			"that was sensed is in it too, names of programs and people included.",
	}, 0, 0, func(k *call) error {
		client, err := k.client()
		if err != nil {
			return err
		}
		defer client.Close()
		v, err := client.Why(k.Context.Context)
		if err != nil {
			return err
		}
		return k.answer(v, func() { sayWhy(k, v) })
	})
}

var levelText = map[string]string{
	"free":  "works for others",
	"share": "works for others beside its owner, at the lowest priority",
	"leave": "ends the task that it has and takes no other",
	"stop":  "does not work for others",
}

func sayWhy(k *call, v localapi.WhyView) {
	for _, d := range v.Devices {
		k.say("%s (%s) %s", clean(d.Name), clean(d.Model), levelText[d.Level])
		if d.Signal != "" {
			k.say("  %s: %s", d.Signal, clean(d.Reason))
		}
		for _, a := range d.Also {
			k.say("  also %s", clean(a))
		}
		if d.LeftSeconds > 0 {
			k.say("  free in %s at the earliest", secondsText(d.LeftSeconds))
		}
		if d.Doing != "" {
			k.say("  now %s", clean(d.Doing))
		}
	}
	what := "nobody's desk: input and screen do not count"
	if v.Desk {
		what = "somebody's desk: it yields to them"
	}
	if v.Mode == "off" {
		what = "not looked at: only a pause, a suspend and a lost GPU count"
	}
	k.say("this machine is %s (idle.mode is %s)", what, v.Mode)
	for _, name := range slices.Sorted(maps.Keys(v.Missing)) {
		k.say("not sensed by %s: %s", name, clean(v.Missing[name]))
	}
}
