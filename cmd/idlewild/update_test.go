package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"idlewild/node"
	"idlewild/node/localapi"
	"idlewild/node/update"
)

// Two real builds of this program: the older fetches the newer from a web
// server, tries it and becomes it; one that does not start is not kept.
// `make update` runs it, because two builds take a while.
func TestUpdateOfRealBuilds(t *testing.T) {
	if os.Getenv("IDLEWILD_TEST_UPDATE") == "" {
		t.Skip("NOT RUN: an update between two real builds: make update")
	}
	const newer = "99.0.0"
	bin := t.TempDir()
	build := func(out, version string) {
		args := []string{"build", "-o", out, "-ldflags", "-X idlewild/node.Version=" + version}
		if version != node.Version {
			// The add-on inside is of the same version.
			manifest, err := filepath.Abs("../../blender-addon/idlewild_addon/blender_manifest.toml")
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(manifest)
			if err != nil {
				t.Fatal(err)
			}
			changed := filepath.Join(bin, "manifest")
			text = []byte(strings.Replace(string(text), "\nversion = \""+node.Version+"\"", "\nversion = \""+version+"\"", 1))
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{manifest: changed}})
			if err != nil {
				t.Fatal(err)
			}
			for f, b := range map[string][]byte{changed: text, changed + ".json": overlay} {
				if err := os.WriteFile(f, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			args = append(args, "-overlay", changed+".json")
		}
		if b, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
	}
	exe, next := filepath.Join(bin, "idlewild"), filepath.Join(bin, "next")
	build(exe, node.Version)
	build(next, newer)

	pub, priv, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := pub.MarshalText()
	served := map[string][]byte{}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(b)
	}))
	defer web.Close()
	publish := func(version string, program []byte) {
		sum := sha256.Sum256(program)
		m, _ := json.Marshal(update.Manifest{Version: version, Files: map[string]update.File{
			update.Platform(): {URL: version, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(program))},
		}})
		served["/m.json"], served["/m.json.minisig"], served["/"+version] = m, minisign.Sign(priv, m), program
	}

	data := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("[update]\nmode = \"off\"\nurl = %q\nkey = %q\n[blender]\npath = %q\n[network]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\n[idle]\nmode = \"off\"\n",
		web.URL+"/m.json", key, "/no/such/blender")
	if err := os.WriteFile(filepath.Join(data, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		b, err := exec.Command(exe, append(args, "--data-dir", data)...).CombinedOutput()
		return string(b), err
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	daemon := exec.Command(exe, "up", "--data-dir", data)
	daemon.Stderr = log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer daemon.Wait()
	defer daemon.Process.Signal(os.Interrupt)
	version := func() string {
		ep, err := localapi.ReadEndpoint(data)
		if err != nil || ep.PID != daemon.Process.Pid {
			return ""
		}
		c, err := localapi.Dial(data)
		if err != nil {
			return ""
		}
		defer c.Close()
		s, err := c.Status(t.Context())
		if err != nil {
			return ""
		}
		return s.Machine.Version
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(4 * time.Minute); !ok(); <-time.After(50 * time.Millisecond) {
			if time.Now().After(end) {
				b, _ := os.ReadFile(log.Name())
				t.Fatalf("%s: not within four minutes: %s", what, b)
			}
		}
	}
	await("the old one answers", func() bool { return version() == node.Version })
	before, err := os.ReadFile(filepath.Join(data, "identity.key"))
	if err != nil {
		t.Fatal(err)
	}

	// A newer one that runs, and crashes as a daemon.
	publish("50.0.0", []byte("#!/bin/sh\n[ \"$1\" = --version ] && { echo idlewild version 50.0.0; exit; }\nexit 3\n"))
	if out, err := run("update"); err != nil || !strings.Contains(out, "version 50.0.0 is there") {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := run("update", "--install"); err != nil || !strings.Contains(out, "tries it now") {
		t.Fatalf("%v: %s", err, out)
	}
	await("the broken one is remembered", func() bool { return update.Load(data).Bad["50.0.0"] != "" })
	await("the old one goes on", func() bool { return version() == node.Version })

	program, err := os.ReadFile(next)
	if err != nil {
		t.Fatal(err)
	}
	publish(newer, program)
	if out, err := run("update", "--install"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	await("the new one answers, in the same process", func() bool { return version() == newer })
	if b, err := exec.Command(exe, "--version").Output(); err != nil || !strings.Contains(string(b), newer) {
		t.Errorf("the file is %s %v", b, err)
	}
	if b, err := exec.Command(exe+".old", "--version").Output(); err != nil || !strings.Contains(string(b), node.Version) {
		t.Errorf("the one before is %s %v", b, err)
	}
	if after, err := os.ReadFile(filepath.Join(data, "identity.key")); err != nil || string(after) != string(before) {
		t.Errorf("the identity changed: %v", err)
	}
	publish("0.0.1", program)
	if out, err := run("update", "--install"); err != nil || !strings.Contains(out, "is the newest version") {
		t.Errorf("a downgrade: %v: %s", err, out)
	}
	if b, _ := os.ReadFile(log.Name()); !strings.Contains(string(b), "ended before it answered: exit status 3") || !strings.Contains(string(b), "to="+newer) {
		t.Errorf("the log: %s", b)
	}
}
