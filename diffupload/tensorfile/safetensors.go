package tensorfile

import (
	"encoding/json"
	"io"
)

// safetensorsSpans reads the header of a safetensors file: 8 bytes for its
// length, then JSON that has for each name where its bytes lie behind it.
// https://github.com/huggingface/safetensors describes the format.
func safetensorsSpans(r io.ReaderAt, length, size int64) ([]Span, error) {
	if length > maxHeader {
		return nil, notRead("a header of %d bytes", length)
	}
	read := &failing{r: io.NewSectionReader(r, 8, length)}
	spans, err := tensorsOf(json.NewDecoder(read), 8+length, size)
	if read.err != nil {
		err = read.err
	} else if err != nil {
		err = notRead("%v", err)
	}
	if err != nil {
		return nil, err
	}
	return Fit(spans, size)
}

func tensorsOf(d *json.Decoder, data, size int64) ([]Span, error) {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, notRead("a header that is no object")
	}
	var spans []Span
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string) // a key is nothing else
		if name == "__metadata__" {
			if err := d.Decode(&json.RawMessage{}); err != nil {
				return nil, err
			}
			continue
		}
		var info struct {
			Offsets [2]int64 `json:"data_offsets"`
		}
		if err := d.Decode(&info); err != nil {
			return nil, err
		}
		o := info.Offsets
		switch {
		case len(spans) == maxTensors:
			return nil, notRead("more than %d tensors", maxTensors)
		case o[0] < 0 || o[0] > o[1] || o[1] > size-data:
			return nil, notRead("a tensor at the bytes %d of %d", o, size-data)
		}
		spans = append(spans, Span{keyOf(name), data + o[0], data + o[1]})
	}
	_, err := d.Token() // the end: a header that breaks off has none
	return spans, err
}

// failing remembers an error of r that is not its end.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}
