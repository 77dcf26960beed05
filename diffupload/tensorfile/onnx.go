package tensorfile

import (
	"io"
	"path"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxFields is how many fields of messages are looked at in one model.
const maxFields = 1 << 21

// Fields of ONNX's messages. https://github.com/onnx/onnx, onnx.proto.
const (
	modelGraph       = 7
	graphInitializer = 5
	tensorName       = 8
	tensorExternal   = 13
	entryKey         = 1
	entryValue       = 2
)

// onnxModel is where a model's initializers are: messages with the weights in
// them, which are cut as a whole, or places in other files.
type onnxModel struct {
	inside  []Span
	outside map[string][]Span
}

type onnxReader struct {
	r      io.ReaderAt
	fields int
	count  int // of tensors
	model  onnxModel
}

func readONNX(r io.ReaderAt, size int64) (onnxModel, error) {
	o := &onnxReader{r: r, model: onnxModel{outside: map[string][]Span{}}}
	err := o.each(0, size, func(f field) error {
		if f.num != modelGraph || !f.bytes {
			return nil
		}
		return o.each(f.from, f.to, func(f field) error {
			if f.num != graphInitializer || !f.bytes {
				return nil
			}
			return o.initializer(f)
		})
	})
	if err != nil {
		return onnxModel{}, err
	}
	return o.model, nil
}

func (o *onnxReader) initializer(f field) error {
	if o.count++; o.count > maxTensors {
		return notRead("more than %d tensors", maxTensors)
	}
	name := ""
	var at external
	err := o.each(f.from, f.to, func(x field) (err error) {
		switch {
		case x.num == tensorName:
			name, err = o.text(x)
		case x.num == tensorExternal && x.bytes:
			err = o.entry(x, &at)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case at.location == "":
		o.model.inside = append(o.model.inside, Span{keyOf(name), f.begin, f.to})
		return nil
	}
	s := Span{keyOf(name), at.offset, toNext}
	if at.sized {
		if at.length > 1<<62-at.offset {
			return notRead("a tensor of %d bytes", at.length)
		}
		s.End = at.offset + at.length
	}
	file := path.Clean(at.location)
	o.model.outside[file] = append(o.model.outside[file], s)
	return nil
}

// external is where a tensor's bytes are, if not in the model.
type external struct {
	location       string
	offset, length int64
	sized          bool
}

func (o *onnxReader) entry(f field, e *external) error {
	var key, value string
	err := o.each(f.from, f.to, func(x field) (err error) {
		switch x.num {
		case entryKey:
			key, err = o.text(x)
		case entryValue:
			value, err = o.text(x)
		}
		return err
	})
	if err != nil {
		return err
	}
	number := func(to *int64) error {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return notRead("%s %q of a tensor", key, value)
		}
		*to = n
		return nil
	}
	switch key {
	case "location":
		e.location = value
	case "offset":
		return number(&e.offset)
	case "length":
		e.sized = true
		return number(&e.length)
	}
	return nil
}

// field is one of a message; where it is bytes, those from from to to.
type field struct {
	num             protowire.Number
	bytes           bool
	begin, from, to int64
}

// each calls f with the fields of a message.
func (o *onnxReader) each(from, to int64, f func(field) error) error {
	var buf [2 * 10]byte
	for from < to {
		if o.fields++; o.fields > maxFields {
			return notRead("more than %d fields", maxFields)
		}
		head := buf[:min(int64(len(buf)), to-from)]
		if n, err := o.r.ReadAt(head, from); n < len(head) {
			if err == nil || err == io.EOF {
				return notRead("it ends at byte %d", from+int64(n))
			}
			return err
		}
		num, kind, k := protowire.ConsumeTag(head)
		if k < 0 {
			return notRead("garbled at byte %d", from)
		}
		x := field{num: num, begin: from}
		if kind == protowire.BytesType {
			v, n := protowire.ConsumeVarint(head[k:])
			x.bytes, x.from = true, from+int64(k+n)
			if n < 0 || x.from > to || v > uint64(to-x.from) {
				return notRead("a part at byte %d that is longer than the file", from)
			}
			x.to = x.from + int64(v)
			from = x.to
		} else {
			n := protowire.ConsumeFieldValue(num, kind, head[k:])
			if n < 0 || kind == protowire.StartGroupType {
				return notRead("garbled at byte %d", from)
			}
			from += int64(k + n)
		}
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}

func (o *onnxReader) text(f field) (string, error) {
	n := f.to - f.from
	if !f.bytes || n > maxName {
		return "", notRead("a name of %d bytes", n)
	}
	b := make([]byte, n)
	if k, err := o.r.ReadAt(b, f.from); int64(k) < n {
		if err == io.EOF {
			err = notRead("it ends at byte %d", f.from+int64(k))
		}
		return "", err
	}
	return string(b), nil
}
