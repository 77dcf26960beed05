package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"runtime"
	"strings"
	"unicode"

	"idlewild/job"
	"idlewild/node/localapi"
)

// look is what the icon and its menu show.
type look struct {
	mood   mood
	head   string   // in one line
	why    []string // one for each device
	paused bool
	here   bool // a daemon answers
}

type mood int

const (
	away    mood = iota // no daemon
	resting             // it may not work for others
	free                // it may, and has nothing to do
	busy
)

// maxLine bounds what is shown in one line of a menu.
const maxLine = 120

// lookOf says what to show of a daemon's answers, or of an error.
func lookOf(s localapi.StatusView, w localapi.WhyView, err error) look {
	if err != nil {
		return look{head: "idlewild does not run", why: []string{"Start it with: idlewild up"}}
	}
	l := look{here: true, paused: s.Machine.Paused != "", mood: resting}
	works, may := 0, 0
	for _, d := range w.Devices {
		if d.Name == job.HomeDevice {
			continue
		}
		name := d.Model
		if name == "" {
			name = d.Name
		}
		level := d.Level == "free" || d.Level == "share"
		running := strings.HasPrefix(d.Doing, "job ")
		switch {
		case running:
			works++
			l.why = append(l.why, line(name+": works on "+d.Doing))
		case level:
			l.why = append(l.why, line(name+": has nothing to do"))
		default:
			l.why = append(l.why, line(fmt.Sprintf("%s: rests, because of %s: %s", name, d.Signal, d.Reason)))
		}
		if level {
			may++
		}
	}
	switch {
	case l.paused:
		l.head = line("Paused: " + s.Machine.Paused)
	case works > 0:
		l.mood, l.head = busy, "Works for the farm"
	case may > 0:
		l.mood, l.head = free, "Waits for work"
	default:
		l.head = "Rests"
	}
	if s.Farm.ID == "" {
		l.head += " (in no farm)"
	}
	return l
}

// line makes one line of text that may come from other people.
func line(s string) string {
	r := []rune(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s))
	if len(r) > maxLine {
		r = append(r[:maxLine-1], '…')
	}
	return string(r)
}

var moods = map[mood]color.NRGBA{
	away: {0x8a, 0x8a, 0x8a, 0xff}, resting: {0xb8, 0x7a, 0x14, 0xff}, free: {0x2b, 0x6a, 0x4f, 0xff}, busy: {0x2f, 0x6f, 0xd0, 0xff},
}

// icon draws four frames of a job, the program's own mark, in the mood's
// colour; as a PNG, and on Windows as an ICO around it.
func icon(m mood) []byte {
	const side = 64
	img := image.NewNRGBA(image.Rect(0, 0, side, side))
	for y := range side {
		for x := range side {
			c := moods[m]
			for i, at := range []image.Point{{12, 12}, {36, 12}, {12, 36}, {36, 36}} {
				if (image.Point{x, y}).In(image.Rectangle{at, at.Add(image.Pt(16, 16))}) {
					c = color.NRGBA{0xff, 0xff, 0xff, 0xff}
					if i == 1 && m != busy {
						c.A = 0x80
					}
				}
			}
			img.SetNRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err) // to memory
	}
	if runtime.GOOS == "windows" {
		return ico(side, b.Bytes())
	}
	return b.Bytes()
}

// ico puts a PNG into an ICO, as Windows Vista and newer read it.
func ico(side int, picture []byte) []byte {
	var b bytes.Buffer
	for _, v := range []any{
		uint16(0), uint16(1), uint16(1), // reserved, icon, one picture
		uint8(side), uint8(side), uint8(0), uint8(0), uint16(1), uint16(32), uint32(len(picture)), uint32(22),
	} {
		_ = binary.Write(&b, binary.LittleEndian, v) // to memory
	}
	return append(b.Bytes(), picture...)
}
