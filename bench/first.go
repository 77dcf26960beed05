package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"idlewild/job"
)

func init() {
	benchmarks["first"] = benchmark{"from an archive on a new machine to its first frame for somebody: how long, and how many questions (needs script)", firstFrame}
}

// question is how setup asks.
var question = regexp.MustCompile(`^\d\. `)

// firstFrame is the evening of somebody who was sent a ticket: an archive is
// unpacked, setup is answered in a real terminal, and a friend's job waits.
func firstFrame(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("first", flag.ContinueOnError)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	script, err := exec.LookPath("script")
	if err != nil {
		return nil, fmt.Errorf("a terminal to type into is missing (package bsdutils): %w", err)
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	friend, err := f.start(ctx, "friend", nodeOptions{noWork: true})
	if err != nil {
		return nil, err
	}
	if err := f.found(ctx, friend); err != nil {
		return nil, err
	}
	ticket, err := friend.client.Invite(ctx, time.Hour)
	if err != nil {
		return nil, err
	}
	scene, err := sceneOrDemo(ctx, f, "")
	if err != nil {
		return nil, err
	}
	id, err := f.submit(ctx, friend, "submit", scene, "-o", filepath.Join(f.dir, "out"), "-f", "1-4", "--json")
	if err != nil {
		return nil, err
	}
	home := filepath.Join(f.dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	archive := filepath.Join(f.dir, "idlewild.tar.gz")
	if err := packed(archive, f.bin); err != nil {
		return nil, err
	}

	began := time.Now()
	if out, err := exec.CommandContext(ctx, "tar", "xzf", archive, "-C", home).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("tar: %w: %s", err, out)
	}
	data := filepath.Join(home, "data")
	cmd := exec.CommandContext(ctx, script, "-qefc", filepath.Join(home, "idlewild")+" setup", os.DevNull)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"), "IDLEWILD_DATA_DIR="+data,
		"IDLEWILD_NETWORK_LISTEN=/ip4/127.0.0.1/tcp/0", "IDLEWILD_NETWORK_MDNS=false")
	asked, err := answered(cmd, []string{"", ticket, "always", "", "now"})
	if err != nil {
		return nil, err
	}
	ready := time.Since(began)
	defer endDaemon(data)
	err = poll(ctx, 10*time.Minute, "the first frame", func() error {
		s, err := friend.client.Job(ctx, id)
		switch {
		case err != nil:
			return err
		case s.Delivered > 0:
			return nil
		case s.State.Ended():
			return fatal{fmt.Errorf("the job is %s: %s", s.State, s.Reason)}
		}
		return errors.New("no frame yet")
	})
	if err != nil {
		return nil, err
	}
	first := time.Since(began)
	if _, err := friend.client.Steer(ctx, id, job.Cancel); err != nil {
		return nil, err
	}
	return []Figure{
		atMost("archive -> first frame delivered to somebody", first.Seconds(), "s", 180),
		plain("of it, until setup is done", ready.Seconds(), "s"),
		atMost("questions", float64(asked), "", 5),
	}, nil
}

// packed writes an archive that holds the program.
func packed(archive, bin string) error {
	fi, err := os.Stat(bin)
	if err != nil {
		return err
	}
	out, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer out.Close()
	z := gzip.NewWriter(out)
	t := tar.NewWriter(z)
	if err := t.WriteHeader(&tar.Header{Name: "idlewild", Mode: 0o755, Size: fi.Size(), ModTime: fi.ModTime()}); err != nil {
		return err
	}
	in, err := os.Open(bin)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := io.Copy(t, in); err != nil {
		return err
	}
	return errors.Join(t.Close(), z.Close(), out.Close())
}

// answered runs cmd, a terminal, and types the next answer after each question.
func answered(cmd *exec.Cmd, answers []string) (asked int, err error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	text, line := []byte(nil), []byte(nil)
	r := bufio.NewReader(out)
	for {
		b, err := r.ReadByte()
		if err != nil {
			break
		}
		text, line = append(text, b), append(line, b)
		switch {
		case b == '\n':
			line = line[:0]
		case b == ' ' && r.Buffered() == 0 && question.Match(line):
			// It waits after a question's last space.
			if asked == len(answers) {
				cmd.Process.Kill()
				cmd.Wait()
				return asked, fmt.Errorf("it asks more: %s", line)
			}
			if _, err := io.WriteString(in, answers[asked]+"\n"); err != nil {
				return asked, err
			}
			asked, line = asked+1, line[:0]
		}
	}
	if err := cmd.Wait(); err != nil {
		return asked, fmt.Errorf("setup: %w:\n%s", err, text)
	}
	fmt.Fprintf(os.Stderr, "%s", text)
	return asked, nil
}

// endDaemon ends the daemon that setup left behind.
func endDaemon(data string) {
	b, err := os.ReadFile(filepath.Join(data, "api.json"))
	if m := regexp.MustCompile(`"pid":\s*(\d+)`).FindSubmatch(b); err == nil && m != nil {
		if pid, err := strconv.Atoi(string(m[1])); err == nil {
			syscall.Kill(pid, syscall.SIGTERM)
		}
	}
}
