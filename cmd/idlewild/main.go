// Command idlewild is a peer-to-peer render farm for idle GPUs: the daemon, and
// everything a person does with it from a shell.
//
// Each subcommand is a file, but for two that belong to another. What they have
// in common of speaking to people and programs stands in tui.go, exit codes in
// exit.go.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"

	"idlewild/node"
)

func main() {
	// Processes that render are this binary again; they never get further.
	node.RunnerMain()
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program; it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks, the second one ends.
	context.AfterFunc(ctx, stop)

	p := &program{in: stdin, out: stdout, err: stderr, tty: isTerminal(stdout)}
	p.json = slices.Contains(beforeDashes(args), "--json") // for errors in the usage itself
	app := newApp(p)
	err := app.RunContext(ctx, arrange(app.Commands, args))
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ctx.Err())) {
		err = errInterrupted
	}
	p.fail(err)
	return exitCode(err)
}

func newApp(p *program) *cli.App {
	return &cli.App{
		Name:                      "idlewild",
		Usage:                     "a peer-to-peer render farm for idle GPUs",
		Version:                   node.Version,
		Writer:                    p.out,
		ErrWriter:                 p.err,
		DisableSliceFlagSeparator: true,
		HideHelpCommand:           false,
		EnableBashCompletion:      true,
		ExitErrHandler:            func(*cli.Context, error) {}, // run decides
		OnUsageError:              usageError,
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return usagef("there is no command %q; see: idlewild help", name)
			}
			c.App.Writer = p.err
			_ = cli.ShowAppHelp(c) // to a terminal
			return usagef("no command given")
		},
		Commands: []*cli.Command{
			upCommand(p),
			setupCommand(p),
			renderCommand(p),
			submitCommand(p),
			statusCommand(p),
			cancelCommand(p),
			pauseCommand(p),
			resumeCommand(p),
			whyCommand(p),
			dashboardCommand(p),
			papersCommand(p),
			mcpCommand(p),
			logsCommand(p),
			fetchCommand(p),
			requeueCommand(p),
			resubmitCommand(p),
			jobCommand(p),
			farmCommand(p),
			peersCommand(p),
			doctorCommand(p),
			auditCommand(p),
			supportCommand(p),
			updateCommand(p),
			gpusCommand(p),
			blenderCommand(p),
			modelCommand(p),
			runtimeCommand(p),
			inspectCommand(p),
			checkCommand(p),
			snapshotCommand(p),
			diffCommand(p),
			diffDecodeCommand(p),
			storeCommand(p),
			chunkCommand(p),
			addonCommand(p),
			configCommand(p),
		},
	}
}
