package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	addon "idlewild/blender-addon"
	"idlewild/job"
	"idlewild/node"
	"idlewild/node/localapi"
	"idlewild/render/blender"
)

func addonCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:  "addon",
		Usage: "the Blender add-on that submits jobs",
		Subcommands: []*cli.Command{
			command(p, &cli.Command{
				Name:        "install",
				Usage:       "put the add-on that matches the daemon into Blender, and switch it on",
				Description: "Close Blender first: a running one saves its own preferences over it when it ends.",
				Flags:       []cli.Flag{&cli.StringFlag{Name: blender.OnPath, DefaultText: "that of the settings, or on PATH", Usage: "install into the Blender at `PATH`"}},
			}, 0, 0, installAddon),
			command(p, &cli.Command{
				Name:  "zip",
				Usage: "write the add-on as a file, to install by hand",
				Flags: []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, DefaultText: "its own name, here", Usage: "write to `FILE`"}},
			}, 0, 0, zipAddon),
		},
		HideHelpCommand: true,
		OnUsageError:    usageError,
		Action: func(x *cli.Context) error {
			if name := x.Args().First(); name != "" {
				return usagef("there is no command %q; see: idlewild addon --help", "addon "+name)
			}
			return usagef("addon needs one of install, zip; see: idlewild addon --help")
		},
	}
}

// addonZip returns the add-on of the daemon that runs, which may be of another
// version than this program, or else this program's own.
func addonZip(ctx context.Context, cfg node.Config) (version string, b []byte, err error) {
	ep, err := localapi.ReadEndpoint(cfg.DataDir)
	if err != nil || ep.Version == node.Version {
		return addon.Version(), addon.Zip(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	url := fmt.Sprintf("http://%s/%s-%s.zip", ep.Address, addon.Module, ep.Version)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return addon.Version(), addon.Zip(), nil // it is not there any more
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", nil, fmt.Errorf("the daemon that runs is idlewild %s and has no add-on of its own; restart it with: idlewild up", ep.Version)
	}
	b, err = io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return ep.Version, b, err
}

func zipAddon(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	version, b, err := addonZip(k.Context.Context, cfg)
	if err != nil {
		return err
	}
	to := k.String("output")
	if to == "" {
		to = addon.Module + "-" + version + ".zip"
	}
	if to, err = absolute(to); err != nil {
		return err
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		return err
	}
	return k.answer(map[string]any{"file": to, "version": version, "size_bytes": len(b)}, func() {
		k.say("wrote %s; in Blender 4.2 and newer drop it onto the window, in older ones install it in Preferences > Add-ons", to)
	})
}

func installAddon(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	program := k.String(blender.OnPath)
	if program == "" {
		program = cfg.Blender.Path
	}
	if program == "" {
		program = blender.OnPath
	}
	found, err := exec.LookPath(program)
	if err != nil {
		return job.Refuse("Blender", "there is no program "+program, "name it with --blender PATH")
	}
	version, b, err := addonZip(k.Context.Context, cfg)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "idlewild-addon-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, script, result := filepath.Join(dir, addon.Module+"-"+version+".zip"), filepath.Join(dir, "install.py"), filepath.Join(dir, "result.json")
	if err := errors.Join(os.WriteFile(file, b, 0o600), os.WriteFile(script, addon.InstallScript, 0o600)); err != nil {
		return err
	}
	cmd := exec.CommandContext(k.Context.Context, found, "-b", "--python-exit-code", "1", "-P", script, "--", file, result)
	cmd.WaitDelay = 5 * time.Second
	log, err := cmd.CombinedOutput()
	if err != nil {
		for _, line := range lastLines(string(log), 8) {
			k.quote(line)
		}
		return fmt.Errorf("%s did not take the add-on: %w; write it with idlewild addon zip and install it by hand", found, err)
	}
	var in struct {
		Blender string `json:"blender"`
		Module  string `json:"module"`
		Path    string `json:"path"`
	}
	answer, err := os.ReadFile(result)
	if err == nil {
		err = json.NewDecoder(bytes.NewReader(answer)).Decode(&in)
	}
	if err != nil {
		return fmt.Errorf("%s ran but did not say that it took the add-on: %w", found, err)
	}
	doc := map[string]any{"version": version, "blender_version": in.Blender, "module": in.Module, "path": in.Path}
	return k.answer(doc, func() {
		k.say("add-on %s is in Blender %s: %s", version, in.Blender, in.Path)
		k.say("it is in Properties > Output and in the Render menu")
	})
}
