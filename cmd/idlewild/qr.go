package main

import (
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/vbauerster/mpb/v8/cwriter"
	"rsc.io/qr"

	"idlewild/p2p"
)

// quiet is how many light modules a code has around it, as its standard asks
// for.
const quiet = 4

// qrCode draws a code with half blocks, two rows of modules a line. Dark
// modules are drawn and light ones left out.
func qrCode(text string) ([]string, error) {
	code, err := qr.Encode(text, qr.L) // the ticket is signed: damage is noticed
	if err != nil {
		return nil, fmt.Errorf("QR code: %w", err)
	}
	var lines []string
	for y := -quiet; y < code.Size+quiet; y += 2 {
		var b strings.Builder
		for x := -quiet; x < code.Size+quiet; x++ {
			// Outside of the code everything is light.
			switch upper, lower := code.Black(x, y), code.Black(x, y+1); {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteRune(' ')
			}
		}
		lines = append(lines, b.String())
	}
	return lines, nil
}

// showQR draws a ticket where somebody can see it: on a terminal that is wide
// enough, or anywhere if it was asked for.
func (k *call) showQR(ticket string, asked bool) error {
	if k.json || !k.tty && !asked {
		return nil
	}
	text, err := p2p.TicketForQR(ticket)
	var lines []string
	if err == nil {
		lines, err = qrCode(text)
	}
	if err != nil {
		if asked {
			return err
		}
		return nil // the ticket stands there as text
	}
	paint, plain := "", ""
	if f, ok := k.out.(*os.File); ok && k.tty {
		wide := utf8.RuneCountInString(lines[0])
		if columns, _, err := cwriter.GetSize(int(f.Fd())); err == nil && columns < wide {
			k.complain("no QR code: it is %d columns wide and this terminal %d; make the window wider or the letters smaller", wide, columns)
			return nil
		}
		// Black on white, whatever the terminal's own colours are: not every
		// camera takes a negative.
		paint, plain = "\x1b[30;107m", "\x1b[0m"
	}
	for _, l := range lines {
		fmt.Fprintln(k.out, paint+l+plain)
	}
	return nil
}
