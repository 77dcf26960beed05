package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// wireLink is a cable between two network namespaces of this machine, each
// with loopback and nothing else. Both directions have the same rate, shaped by
// the kernel's token bucket; there is no delay beyond its queue.
type wireLink struct {
	ends [2]wireEnd
}

// wireEnd is one namespace.
type wireEnd struct {
	namespace string
	device    string
	address   string
}

// newWireLink needs root, ip, tc and nsenter.
func newWireLink(ctx context.Context) (*wireLink, error) {
	var missing []string
	for _, program := range []string{"ip", "tc", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s missing: apt-get install iproute2 util-linux", strings.Join(missing, ", "))
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a link of limited rate needs network namespaces: run as root")
	}
	l := &wireLink{}
	for i := range l.ends {
		l.ends[i] = wireEnd{
			namespace: fmt.Sprintf("idlewild-%d-%d", os.Getpid(), i),
			device:    "cable",
			address:   fmt.Sprintf("10.213.77.%d", i+1),
		}
	}
	a, b := l.ends[0], l.ends[1]
	steps := [][]string{
		{"ip", "netns", "add", a.namespace},
		{"ip", "netns", "add", b.namespace},
		{"ip", "link", "add", a.device, "netns", a.namespace, "type", "veth", "peer", "name", b.device, "netns", b.namespace},
	}
	for _, e := range l.ends {
		steps = append(steps,
			[]string{"ip", "-n", e.namespace, "addr", "add", e.address + "/30", "dev", e.device},
			[]string{"ip", "-n", e.namespace, "link", "set", "lo", "up"},
			[]string{"ip", "-n", e.namespace, "link", "set", e.device, "up"})
	}
	for _, s := range steps {
		if out, err := exec.CommandContext(ctx, s[0], s[1:]...).CombinedOutput(); err != nil {
			l.close()
			return nil, fmt.Errorf("%s: %w: %s", strings.Join(s, " "), err, out)
		}
	}
	return l, nil
}

// close removes the namespaces, and the cable with them.
func (l *wireLink) close() {
	for _, e := range l.ends {
		exec.Command("ip", "netns", "del", e.namespace).Run() // of one that was never made, that is the error
	}
}

// limit sets the rate of both directions, in Mbit/s; 0 takes it off.
func (l *wireLink) limit(ctx context.Context, mbit float64) error {
	for _, e := range l.ends {
		args := []string{"-n", e.namespace, "qdisc", "replace", "dev", e.device, "root", "tbf",
			"rate", fmt.Sprintf("%.0fkbit", mbit*1000), "burst", "32kb", "latency", "50ms"}
		if mbit == 0 {
			args = []string{"-n", e.namespace, "qdisc", "del", "dev", e.device, "root"}
		}
		if out, err := exec.CommandContext(ctx, "tc", args...).CombinedOutput(); err != nil && mbit != 0 {
			return fmt.Errorf("tc %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// enter is put before a command that shall run at this end.
func (e wireEnd) enter() []string {
	return []string{"nsenter", "--net=" + filepath.Join("/run/netns", e.namespace)}
}

// bytes is what has crossed the cable so far, both directions, with every
// header from Ethernet's on.
func (e wireEnd) bytes(ctx context.Context) (int64, error) {
	line := append(e.enter(), "cat", "/proc/net/dev")
	out, err := exec.CommandContext(ctx, line[0], line[1:]...).Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", strings.Join(line, " "), err)
	}
	for l := range strings.Lines(string(out)) {
		name, counts, ok := strings.Cut(l, ":")
		f := strings.Fields(counts)
		if !ok || strings.TrimSpace(name) != e.device || len(f) < 9 {
			continue
		}
		received, err1 := strconv.ParseInt(f[0], 10, 64)
		sent, err2 := strconv.ParseInt(f[8], 10, 64)
		return received + sent, errors.Join(err1, err2)
	}
	return 0, fmt.Errorf("no device %s in /proc/net/dev: %q", e.device, out)
}
