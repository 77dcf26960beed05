package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"idlewild/node/localapi"
)

func doctorCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:  "doctor",
		Usage: "what is wrong between this machine and its farm, and what helps",
		Description: "How members are reached, how far their clocks are off, and for each job that was offered within the last hour why\n" +
			"this machine did or did not get work from it. With --speed it measures how fast bytes pass, for some seconds per member.\n" +
			"Exits with 1 where a finding is an error; warnings and notes do not count.",
		Flags: []cli.Flag{&cli.BoolFlag{DisableDefaultText: true, Name: "speed", Usage: "measure how fast bytes pass to and from connected members"}},
	}, 0, 0, func(k *call) error {
		var v localapi.DoctorView
		err := withFarm(k, func(c *localapi.Client) (_ localapi.DoctorView, err error) {
			v, err = c.Doctor(k.Context.Context, k.Bool("speed"))
			return v, err
		}, func(v localapi.DoctorView) { sayDoctor(k, v) })
		if err != nil {
			return err
		}
		return doctorErrors(v)
	})
}

// doctorErrors is what a script sees of findings that are errors, by the exit
// code.
func doctorErrors(v localapi.DoctorView) error {
	n := 0
	for _, f := range v.Findings {
		if f.Severity == "error" {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%s among the findings, each with what helps", plural(n, "error", "errors"))
}

var natText = map[string]string{
	"none":      "this machine has a public address",
	"cone":      "behind a router that lets holes be punched",
	"symmetric": "behind a router that lets no hole be punched (symmetric NAT)",
	"unknown":   "not known: fewer than two members outside see this machine",
}

var outcomeText = map[string]string{
	"worked": "worked on it", "off": "this machine does no work for others", "unfit": "not for this machine", "refused": "not taken from this member",
	"full": "too many requesters", "unreachable": "not reached", "resting": "this machine rests", "denied": "given nothing", "busy": "busy", "waiting": "asked",
}

func sayDoctor(k *call, v localapi.DoctorView) {
	k.say("network: %s", natText[v.Network.NAT])
	if len(v.Network.Seen) > 0 {
		k.say("  members see it at %s", clean(strings.Join(v.Network.Seen, ", ")))
	}
	if len(v.Network.Open) > 0 {
		k.say("  reached from outside at %s", clean(strings.Join(v.Network.Open, ", ")))
	}
	if len(v.Network.Shut) > 0 {
		k.say("  not reached from outside at %s", clean(strings.Join(v.Network.Shut, ", ")))
	}
	if v.Network.DHT != "" {
		k.say("  the farm's DHT: %s", clean(v.Network.DHT))
	}
	if len(v.Network.Relays) > 0 {
		k.say("  reached through %s", clean(strings.Join(v.Network.Relays, ", ")))
	}
	if v.Network.RelayedBytes > 0 {
		k.say("  has relayed %s for others", bytesText(v.Network.RelayedBytes))
	}
	if len(v.Peers) > 0 {
		rows := [][]string{{"MEMBER", "PATH", "RTT", "UP", "DOWN", "CLOCK", "VERSION"}}
		for _, p := range v.Peers {
			if !p.Connected {
				rows = append(rows, []string{memberName(p.Name, p.Peer), "not connected", "", "", "", "", ""})
				continue
			}
			rows = append(rows, []string{
				memberName(p.Name, p.Peer), pathText(p.Path, p.Transport, p.Via), rttText(p.RTTMillis), rateText(p.UpBytes), rateText(p.DownBytes),
				clockText(p.ClockMillis), p.Agent,
			})
		}
		k.table(rows...)
	}
	for _, o := range v.Offers {
		text := fmt.Sprintf("job %s of %s: %s", o.Job, clean(memberName(o.Name, o.Requester)), outcomeText[o.Outcome])
		if o.Leases > 0 {
			text += ", " + plural(o.Leases, "lease", "leases")
		}
		if o.Reason != "" {
			text += ": " + clean(o.Reason)
		}
		k.say("%s", text)
		if o.Remedy != "" {
			k.say("  %s", o.Remedy)
		}
	}
	if len(v.Offers) == 0 && len(v.Peers) > 0 {
		k.say("nobody has offered work within the last hour")
	}
	for _, f := range v.Findings {
		k.say("%s: %s", f.Severity, clean(f.What))
		if f.Remedy != "" {
			k.say("  %s", clean(f.Remedy))
		}
	}
	if len(v.Findings) == 0 {
		k.say("nothing is wrong")
	}
}

func memberName(name, id string) string {
	if name == "" {
		return id
	}
	return name
}

// pathText says how a member is reached.
func pathText(path, transport, via string) string {
	text := path
	if transport != "" {
		text += ", " + transport
	}
	if via != "" {
		text = path + " via " + via
	}
	return text
}

func rttText(ms float64) string {
	if ms <= 0 {
		return ""
	}
	return fmt.Sprintf("%.1f ms", ms)
}

func rateText(bytesPerSecond float64) string {
	if bytesPerSecond <= 0 {
		return ""
	}
	return fmt.Sprintf("%.1f Mbit/s", bytesPerSecond*8/1e6)
}

func clockText(ms float64) string {
	return fmt.Sprintf("%+.3f s", ms/float64(time.Second/time.Millisecond))
}
