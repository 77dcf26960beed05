package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"idlewild/job"
)

func logsCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:      "logs",
		Usage:     "the newest log of a task; or, without one, every log that is kept of the job",
		ArgsUsage: "JOB [FRAME]",
		Description: "Kept are logs of attempts that failed; once the job has ended, only of tasks that never succeeded.\n" +
			"The log of a task that succeeded is fetched from its worker, as long as that one has it.",
	}, 1, 2, logs)
}

// logDoc is the document of logs.
type logDoc struct {
	Job  job.ID `json:"job"`
	Task string `json:"task,omitempty"`
	Log  string `json:"log"`
}

func logs(k *call) error {
	id, err := k.jobArg(0)
	if err != nil {
		return err
	}
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	b, err := client.Log(k.Context.Context, id, k.Args().Get(1))
	if err != nil {
		return err
	}
	text := strings.ToValidUTF8(string(b), "\ufffd")
	return k.answer(logDoc{id, k.Args().Get(1), text}, func() {
		k.say("%s", strings.TrimRight(clean(strings.ReplaceAll(text, "\r\n", "\n")), "\n"))
	})
}

func lastLines(s string, n int) []string {
	l := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return l[max(0, len(l)-n):]
}
