package main

import (
	"errors"
	"fmt"
	"html/template"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/urfave/cli/v2"
)

// dashboardLink is the page that a browser is sent to, in the data folder.
const dashboardLink = "dashboard.html"

// linkPage hands the code on. It is a file that only its owner reads, because
// the arguments of a program can be seen by every user of a machine.
var linkPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>idlewild</title>
<meta http-equiv="refresh" content="0;url={{.}}">
<p><a href="{{.}}">idlewild's dashboard</a></p>
`))

func dashboardCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:  "dashboard",
		Usage: "open the dashboard of this machine in a browser",
		Description: "The link works once and for a minute; the page stays logged in until its tab is closed or the daemon ends.\n" +
			"With --print the link is written instead, for a browser that is started by hand, or through: ssh -L",
		Flags: []cli.Flag{
			&cli.BoolFlag{DisableDefaultText: true, Name: "print", Usage: "write the link and open nothing"},
		},
	}, 0, 0, openDashboard)
}

func openDashboard(k *call) error {
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	code, err := client.LoginCode(k.Context.Context)
	if err != nil {
		return err
	}
	url := fmt.Sprintf("http://%s/#%s", client.Endpoint().Address, code.Code)
	answer := struct {
		URL          string  `json:"url"`
		ValidSeconds float64 `json:"valid_s"`
	}{url, code.ValidSeconds}
	if k.Bool("print") || k.program.json {
		return k.answer(answer, func() { k.say("%s", url) })
	}
	cfg, err := k.farmConfig()
	if err != nil {
		return err
	}
	file := filepath.Join(cfg.DataDir, dashboardLink)
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(linkPage.Execute(f, template.URL(url)), f.Close())
	if err != nil {
		return err
	}
	if err := browse(file); err != nil {
		return fmt.Errorf("no browser could be started (%w); this link works once, for a minute: %s", err, url)
	}
	k.say("opened in the browser; if nothing shows up: idlewild dashboard --print")
	return nil
}

// browse has the system open a file with what people open web pages with.
func browse(file string) error {
	name, args := "xdg-open", []string{file}
	switch runtime.GOOS {
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", file}
	case "darwin":
		name = "open"
	}
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}
