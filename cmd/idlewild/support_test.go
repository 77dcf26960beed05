package main

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"os/user"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"idlewild/node/localapi"
)

// leaks are what a bundle must not have, whatever was planted.
var leaks = regexp.MustCompile(`12D3Koo|idlewild1:|/home/|/tmp/|whsec_|\b[0-9A-HJKMNP-TV-Z]{26}\b`)

func scriptPlanted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: planted FILE NAME TICKET")
	}
	planted := []string{
		"great film", "nemesis", "hero", "troy", "lovelace", "ada ", "babbage", "grace", "turm", "engine movie", "sequel", "planted",
		strings.ToLower(args[2]), strings.ToLower(ts.Getenv("WORK")),
	}
	if ep, err := localapi.ReadEndpoint(ts.MkAbs(args[1])); err == nil {
		planted = append(planted, strings.ToLower(ep.Token))
	}
	if h, err := os.Hostname(); err == nil && len(h) > 3 {
		planted = append(planted, strings.ToLower(h))
	}
	if u, err := user.Current(); err == nil && len(u.Username) > 4 { // "root" is a word of the farm's
		planted = append(planted, strings.ToLower(u.Username))
	}
	b := []byte(ts.ReadFile(args[0]))
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	ts.Check(err)
	all := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		ts.Check(err)
		text, err := io.ReadAll(r)
		ts.Check(err)
		r.Close()
		all[f.Name] = string(text)
		lower := strings.ToLower(string(text))
		for _, p := range planted {
			if i := strings.Index(lower, p); i >= 0 {
				ts.Fatalf("%s has %q in it: %s", f.Name, p, text[max(0, i-200):min(len(text), i+200)])
			}
		}
		if m := leaks.FindIndex(text); m != nil {
			ts.Fatalf("%s: %s", f.Name, text[max(0, m[0]-200):min(len(text), m[1]+200)])
		}
	}
	// And yet it says something.
	want := map[string]string{"version.json": `"go": "go1`, "settings.json": `"worker.threads"`, "disk.json": `"folders"`}
	if args[0] != "none.zip" {
		want["log.txt"] = "msg=starting"
		want["machine.json"] = `"type": "cpu"`
		want["doctor.json"] = `"same machine"`
		want["history.json"] = `"total"`
	}
	if args[0] == "desk.zip" {
		want["jobs.json"] = `"finished"`
	}
	for name, text := range want {
		if !strings.Contains(all[name], text) {
			ts.Fatalf("%s has no %s: %s", name, text, all[name])
		}
	}
}
