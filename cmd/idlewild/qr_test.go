package main

import (
	"crypto/rand"
	"fmt"
	"image"
	"image/color"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"github.com/rogpeppe/go-internal/testscript"

	"idlewild/p2p"
)

// scan reads the QR code that was drawn somewhere in text.
func scan(text string) (string, error) {
	var rows [][]rune
	for _, line := range strings.Split(strings.ReplaceAll(text, "\r", ""), "\n") {
		line = strings.TrimSuffix(strings.TrimPrefix(line, "\x1b[30;107m"), "\x1b[0m")
		if strings.Trim(line, "█▀▄ ") == "" && line != "" {
			rows = append(rows, []rune(line))
		}
	}
	const size = 4 // pixels of a module
	wide := 0
	for _, r := range rows {
		wide = max(wide, len(r))
	}
	img := image.NewGray(image.Rect(0, 0, wide*size, len(rows)*2*size))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	dark := func(x, y int) {
		for i := range size * size {
			img.SetGray(x*size+i%size, y*size+i/size, color.Gray{})
		}
	}
	for y, r := range rows {
		for x, c := range r {
			if c == '█' || c == '▀' {
				dark(x, 2*y)
			}
			if c == '█' || c == '▄' {
				dark(x, 2*y+1)
			}
		}
	}
	bmp, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		return "", err
	}
	// The picture has no slant to be found out.
	found, err := qrcode.NewQRCodeReader().Decode(bmp, map[gozxing.DecodeHintType]interface{}{gozxing.DecodeHintType_PURE_BARCODE: true})
	if err != nil {
		return "", err
	}
	return found.GetText(), nil
}

// scriptScan puts the text of the QR code in the last stdout into the
// environment.
func scriptScan(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: scan VAR")
	}
	text, err := scan(ts.ReadFile("stdout"))
	ts.Check(err)
	ts.Setenv(args[0], text)
}

// ticketFor makes a real ticket whose inviter listens at so many addresses.
func ticketFor(t *testing.T, addrs int) string {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cfg := p2p.Config{Key: key, DataDir: t.TempDir(), Name: "owner"}
	for i := range addrs {
		cfg.Listen = append(cfg.Listen, fmt.Sprintf("/ip4/127.0.0.%d/udp/0/quic-v1", i+1))
	}
	h, err := p2p.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := h.Membership().CreateFarm("a farm of some name"); err != nil {
		t.Fatal(err)
	}
	ticket, err := h.Membership().Invite(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func TestTicketsAreReadBackFromQRCodes(t *testing.T) {
	for _, addrs := range []int{1, 4, 12} {
		ticket := ticketFor(t, addrs)
		text, err := p2p.TicketForQR(ticket)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := qrCode(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := scan("some text\n\n" + strings.Join(lines, "\n") + "\nmore text\n")
		if err != nil || got != text {
			t.Errorf("%d addresses: read %q, %v", addrs, got, err)
		}
		want, err := p2p.ParseTicket(ticket)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := p2p.ParseTicket(got); err != nil || v.Name != want.Name || len(v.Addrs) != addrs {
			t.Errorf("%d addresses: %+v, %v", addrs, v, err)
		}
		t.Logf("%d addresses: %d characters as text; the code is %d columns by %d lines", addrs, len(ticket), len([]rune(lines[0])), len(lines))
		if addrs == 4 && len([]rune(lines[0])) > 100 {
			t.Errorf("a usual ticket is %d columns wide", len([]rune(lines[0])))
		}
	}
	for _, bad := range []string{"IDLEWILD1:", "IDLEWILD1:AAAA", "IDLEWILD1:" + strings.Repeat("A", 100), "IDLEWILD1:äöü"} {
		if _, err := p2p.ParseTicket(bad); err == nil {
			t.Errorf("%q is a ticket", bad)
		}
	}
}

func TestInviteDrawsOnlyForPeople(t *testing.T) {
	f := newFakeDaemon(t)
	f.ticket = ticketFor(t, 1)
	r := idlewild("farm", "invite", "--data-dir", f.dir)
	if r.code != exitDone || r.out != f.ticket+"\n" || r.err != "" {
		t.Errorf("into a pipe: %+v", r)
	}
	r = idlewild("farm", "invite", "--qr", "--data-dir", f.dir)
	if got, err := scan(r.out); r.code != exitDone || err != nil || !strings.HasPrefix(got, "IDLEWILD1:") || strings.Contains(r.out, "\x1b") {
		t.Errorf("asked for: %q, %v in %+v", got, err, r)
	}
	r = idlewild("farm", "invite", "--json", "--data-dir", f.dir)
	if r.code != exitDone || strings.Count(r.out, "\n") != 1 {
		t.Errorf("as JSON: %+v", r)
	}
	r = idlewild("farm", "invite", "--json", "--qr", "--data-dir", f.dir)
	if r.code != exitUsage {
		t.Errorf("both: %+v", r)
	}
}
