package main

import (
	"fmt"

	"idlewild/job"
	"idlewild/node/localapi"
)

// steer does one thing to the job that the first argument names.
func steer(k *call, a job.Action) error {
	id, err := k.jobArg(0)
	if err != nil {
		return err
	}
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	s, err := client.Steer(k.Context.Context, id, a)
	if err != nil {
		return err
	}
	return k.answer(s, func() { k.say("job %s is %s", id, s.State) })
}

// setPaused stops or starts work for others on this machine.
func setPaused(k *call, w localapi.PauseWish) error {
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	m, err := client.Pause(k.Context.Context, w)
	if err != nil {
		return err
	}
	return k.answer(m, func() {
		if m.Paused != "" {
			k.say("this machine takes no work from others: %s", clean(m.Paused))
		} else {
			k.say("this machine takes work from others, as far as nothing else speaks against it; see: idlewild why")
		}
	})
}

// quote prints a line of somebody else's output on stderr.
func (p *program) quote(line string) { fmt.Fprintf(p.err, "  | %s\n", clean(line)) }
