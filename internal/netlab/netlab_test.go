package netlab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// lab is an empty lab, where this machine allows one.
func lab(t *testing.T) *Lab {
	t.Helper()
	if err := Allowed(); err != nil {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "netns") {
			t.Fatal("network namespaces are required:", err)
		}
		t.Skip("NOT RUN: no network namespaces:", err)
	}
	l := New()
	t.Cleanup(l.Close)
	return l
}

// TestMain lets this program be a server or a client on a host of the lab.
func TestMain(m *testing.M) {
	switch os.Getenv("NETLAB_ROLE") {
	case "echo":
		l, err := net.Listen("tcp4", ":7")
		if err != nil {
			panic(err)
		}
		fmt.Println("ready")
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintln(c, c.RemoteAddr()) // who you are, and then your words
				_, _ = io.Copy(c, c)
			}()
		}
	case "ask":
		start := time.Now()
		c, err := net.DialTimeout("tcp4", os.Getenv("NETLAB_SERVER"), 3*time.Second)
		if err != nil {
			fmt.Println("no answer:", err)
			return
		}
		r := bufio.NewReader(c)
		who, _ := r.ReadString('\n')
		const bytes = 1 << 20
		go func() { _, _ = c.Write(make([]byte, bytes)) }()
		n, _ := io.CopyN(io.Discard, r, bytes)
		fmt.Print(n, " ", time.Since(start).Milliseconds(), " ", who)
		return
	}
	os.Exit(m.Run())
}

func role(ctx context.Context, h *Host, env ...string) *exec.Cmd {
	c := h.Command(ctx, os.Args[0])
	c.Env = append(os.Environ(), env...)
	return c
}

func echo(t *testing.T, h *Host) {
	t.Helper()
	c := role(t.Context(), h, "NETLAB_ROLE=echo")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	if s, _ := bufio.NewReader(out).ReadString('\n'); s != "ready\n" {
		t.Fatalf("the server said %q", s)
	}
}

func ask(t *testing.T, h *Host, server string) string {
	t.Helper()
	out, err := role(t.Context(), h, "NETLAB_ROLE=ask", "NETLAB_SERVER="+server).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestLab lets real sockets speak through routers, links and cuts.
func TestLab(t *testing.T) {
	l := lab(t)
	host := func(s *Site, name string, o LinkOptions) *Host {
		h, err := s.Host(name, o)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	internet, home := l.Site(None), l.Site(PortRestricted)
	server := host(internet, "server", LinkOptions{})
	other := host(internet, "other", LinkOptions{UpBits: 8e6, DownBits: 8e6, Delay: 20 * time.Millisecond})
	lossy := host(internet, "lossy", LinkOptions{Loss: .02})
	laptop, desk := host(home, "laptop", LinkOptions{}), host(home, "desk", LinkOptions{})
	echo(t, server)
	echo(t, desk)
	at := server.Addr().String() + ":7"

	var n, ms int
	var who string
	if got := ask(t, laptop, at); !strings.Contains(got, home.Public().String()+":") {
		t.Errorf("from behind the router: %s", got)
	}
	if got := ask(t, laptop, desk.Addr().String()+":7"); !strings.Contains(got, laptop.Addr().String()+":") {
		t.Errorf("to the neighbour: %s", got)
	}
	if got := ask(t, other, home.Public().String()+":7"); !strings.Contains(got, "no answer") {
		t.Errorf("from outside through the router: %s", got)
	}
	// A mebibyte up and down at 1 MB/s; how much longer depends on the machine.
	got := ask(t, other, at)
	if _, err := fmt.Sscan(got, &n, &ms, &who); err != nil || n != 1<<20 || ms < 900 {
		t.Errorf("over 8 Mbit/s and 40 ms: %s", got)
	}
	if other.Sent() < 1<<20 || other.Received() < 1<<20 {
		t.Errorf("counted %d bytes sent, %d received", other.Sent(), other.Received())
	}
	// One packet in fifty is lost, either way: TCP sends it again.
	if got := ask(t, lossy, at); !strings.HasPrefix(got, fmt.Sprint(1<<20)) {
		t.Errorf("over a lossy cable: %s", got)
	}
	if lossy.up.lost.Load() == 0 || lossy.down.lost.Load() == 0 {
		t.Errorf("%d and %d packets were lost", lossy.up.lost.Load(), lossy.down.lost.Load())
	}
	laptop.Cut()
	if got := ask(t, laptop, at); !strings.Contains(got, "no answer") {
		t.Errorf("over a cut cable: %s", got)
	}
	laptop.Heal()
	if err := laptop.Move(); err != nil {
		t.Fatal(err)
	}
	home.Renumber()
	if got := ask(t, laptop, at); !strings.Contains(got, home.Public().String()+":") {
		t.Errorf("after both addresses changed: %s", got)
	}
}
