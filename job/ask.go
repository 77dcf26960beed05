package job

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Bounds of what is asked of a worker directly.
const (
	MaxAskBytes    = 8 << 20  // one encoded Ask
	MaxSaidBytes   = 34 << 20 // one encoded Said
	MaxAnswerBytes = 32 << 20 // the file that an asked task leaves
)

// Ask is a task that somebody waits for, asked of one worker directly. It is in
// no journal and on no board: who asked is there to ask again. What it is about
// comes with it, as the output of the predecessor that its task names.
type Ask struct {
	Version int     `cbor:"v"` // 1
	Job     ID      `cbor:"job"`
	Lease   LeaseID `cbor:"lease"` // fresh: names the answer's receipt
	Task    Task    `cbor:"task"`  // its latency is Interactive, its predecessor GivenKey
	Read    Signed  `cbor:"read"`  // right to read the job's content
	Name    string  `cbor:"name"`  // of the file that is given
	Given   []byte  `cbor:"given"`
}

// GivenKey is the predecessor of a task that was given b, so that the key of the
// task covers it.
func GivenKey(b []byte) TaskKey {
	e, err := Encode([]any{"idlewild/given/1", b})
	if err != nil {
		panic(fmt.Sprintf("given: %v", err)) // bytes always encode
	}
	return RefOf(sum(e))
}

// Validate checks an Ask that came from a peer.
func (a Ask) Validate() error {
	if a.Version != 1 {
		return fmt.Errorf("ask: version %d, this program knows 1", a.Version)
	}
	if _, err := ParseID(string(a.Job)); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	if _, err := ParseLeaseID(string(a.Lease)); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	if err := a.Task.Validate(); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	if err := SafeName(a.Name); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	switch t := a.Task; {
	case t.Needs.Latency != Interactive:
		return errors.New("ask: a task that nobody waits for")
	case len(t.Outputs) != 1 || t.Outputs[0].Media != MediaFile:
		return errors.New("ask: a task that leaves something else than one file")
	case len(t.After) != 1 || t.After[0] != GivenKey(a.Given):
		return errors.New("ask: what is given is not what the task names")
	case t.Timeout <= 0 || t.Timeout > time.Hour:
		return fmt.Errorf("ask: a time of %v", t.Timeout)
	case len(a.Read.Body) > 4<<10:
		return errors.New("ask: a read grant over its bound")
	}
	return nil
}

// Said is one message of a worker that was asked. The last one has a Receipt, or
// a reason why there is none.
type Said struct {
	Data    []byte `cbor:"data,omitempty"` // what is known of the output: the kind's own
	Receipt Signed `cbor:"receipt"`
	Output  []byte `cbor:"output,omitempty"` // the file that the receipt names
	No      string `cbor:"no,omitempty"`     // why it is not done here
	Busy    bool   `cbor:"busy,omitempty"`   // it may be in a while
}

// Last reports whether nothing follows.
func (s Said) Last() bool { return len(s.Receipt.Body) > 0 || s.No != "" }

// Validate checks a Said that came from a peer.
func (s Said) Validate() error {
	switch {
	case len(s.No) > MaxReasonBytes || !utf8.ValidString(s.No):
		return errors.New("said: a reason over its bounds")
	case len(s.Data) > 64<<10 || len(s.Output) > MaxAnswerBytes:
		return errors.New("said: an answer over its bounds")
	}
	return nil
}

// NotHere is why a worker does not do what it was asked.
type NotHere struct {
	Reason string
	Busy   bool // it may in a while
}

// Error implements error.
func (e *NotHere) Error() string { return e.Reason }
