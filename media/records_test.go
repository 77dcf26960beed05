package media

import (
	"bytes"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTensorsAsJSON(t *testing.T) {
	for want, x := range map[string]Tensor{
		"[[1,2.5],[3,-4]]":    {Shape: []int{2, 2}, Data: []float64{1, 2.5, 3, -4}},
		"0.1":                 {Data: []float64{float64(float32(0.1))}},
		"0.12345678901":       {Data: []float64{0.12345678901}},
		"[]":                  {Shape: []int{0}},
		`["","a\"b","日本"]`:    {Shape: []int{3}, Text: []string{"", `a"b`, "日本"}},
		"[[[1]],[[2]],[[3]]]": {Shape: []int{3, 1, 1}, Data: []float64{1, 2, 3}},
	} {
		b, err := json.Marshal(x)
		if err != nil || string(b) != want {
			t.Errorf("%s %v, want %s", b, err, want)
		}
		var back Tensor
		if err := json.Unmarshal(b, &back); err != nil || !slices.Equal(back.Shape, x.Shape) || !slices.Equal(back.Text, x.Text) || len(back.Data) != len(x.Data) {
			t.Errorf("%s: %+v %v", want, back, err)
		}
	}
	if _, err := json.Marshal(Tensor{Data: []float64{math.NaN()}}); !errors.Is(err, ErrNotNumbers) {
		t.Error(err)
	}
	var x Tensor
	for _, bad := range []string{"[1,[2]]", "[[1],2]", "[[1],[2,3]]", `[1,"a"]`, "{}", "[null]", strings.Repeat("[", 99) + strings.Repeat("]", 99)} {
		if err := x.UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", bad, x)
		}
	}
}

func FuzzTensor(f *testing.F) {
	for _, s := range []string{"[[1,2],[3,4]]", `["a"]`, "1", "[[],[]]", "[[1],[]]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var x Tensor
		if !json.Valid(b) || x.UnmarshalJSON(b) != nil {
			return
		}
		again, err := json.Marshal(x)
		if err != nil {
			t.Fatalf("%s: %+v: %v", b, x, err)
		}
		var y Tensor
		if err := y.UnmarshalJSON(again); err != nil || !slices.Equal(x.Shape, y.Shape) || !slices.Equal(x.Text, y.Text) {
			t.Fatalf("%s: %+v %+v %v", b, x, y, err)
		}
	})
}

func TestReadRecords(t *testing.T) {
	n := 0
	err := ReadRecords(strings.NewReader(`{"item":1,"outputs":{"y":[1]}}`+"\n"+`{"item":2,"error":"no"}`+"\n"), func(Record) error { n++; return nil })
	if err != nil || n != 2 {
		t.Error(n, err)
	}
	for _, bad := range []string{"{", `{"item":1,"more":2}`, `{"item":1,"outputs":{"y":[1,[2]]}}`} {
		if err := ReadRecords(strings.NewReader(bad+"\n"), func(Record) error { return nil }); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestJPEG(t *testing.T) {
	src := image.NewNRGBA(image.Rect(0, 0, 40, 24))
	for y := range 24 {
		for x := range 40 {
			src.Set(x, y, color.NRGBA{uint8(6 * x), uint8(10 * y), 128, 255})
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, src, &jpeg.Options{Quality: 100}); err != nil {
		t.Fatal(err)
	}
	m, err := Decode(b.Bytes(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	red, _ := m.Channel("R")
	if m.Width != 40 || m.Height != 24 || math.Abs(float64(red.Data[5*40+20])-120.0/255) > 0.03 {
		t.Errorf("%dx%d, red %v", m.Width, m.Height, red.Data[5*40+20])
	}
	file := filepath.Join(t.TempDir(), "a.jpg")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := SizeOf(file, Limits{}); err != nil || s != (Size{Width: 40, Height: 24}) {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := Decode(b.Bytes()[:200], Limits{}); err == nil {
		t.Error("half a file")
	}
	if _, err := Decode(b.Bytes(), Limits{Samples: 100}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}
