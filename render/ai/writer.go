package ai

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai/llm"
)

// writer is a language model: it answers as many requests at once as it is
// given.
type writer struct {
	server   *llm.Server
	endpoint string
	commit   bool // answers come with commitments
	several  bool // those with several choices as well
	dated    dated
	day      string // Params.Day
	// fresh ends the server and starts another one.
	fresh func() (*llm.Server, error)
	// slots are the server's places that requests take by number, which is how
	// their tokens are found there afterwards; nil: the server chooses.
	slots chan int
}

// slotsOf are as many places as the server has.
func slotsOf(n int) chan int {
	slots := make(chan int, n)
	for i := range n {
		slots <- i
	}
	return slots
}

// answer implements answerer. Where the server ends in the middle, nobody knows
// which request it was: what has no answer yet is asked again, one request at a
// time, and one that ends a server of its own has that as its error. Where all of
// them do, and a harmless request as well, it is this machine that is wrong.
func (m *writer) answer(qs []query, tell func(int, []byte)) ([]media.Record, error) {
	out := make([]media.Record, len(qs))
	said := make([]saying, len(qs))
	failed := make([]error, len(qs))
	var all sync.WaitGroup
	for i, q := range qs {
		out[i] = media.Record{Item: q.number, ID: q.id}
		if q.err != nil {
			out[i].Error = q.err.Error()
			continue
		}
		said[i].tell = func(chunk []byte) { tell(q.number, chunk) }
		all.Go(func() { failed[i] = m.one(q, &out[i], &said[i]) })
	}
	all.Wait()
	asked, ended := 0, 0
	var last error
	ill := true // the server that is there is not to be trusted
	for i, q := range qs {
		if q.err == nil {
			asked++
		}
		if failed[i] == nil {
			continue
		}
		for tries := 1; ; tries++ {
			if ill {
				var err error
				if m.server, err = m.fresh(); err != nil {
					return nil, err
				}
			}
			last = m.one(q, &out[i], &said[i])
			if ill = last != nil; !ill || tries == 2 || !m.server.Alive() || said[i].other {
				break
			}
			// A connection was lost, and the server was not.
		}
		if !ill {
			continue
		}
		if m.server.Alive() || said[i].other {
			return nil, trouble{job.Broken, last}
		}
		ended++
		out[i].Error = fmt.Sprintf("the model's server ends whenever it is asked this: %v", last)
	}
	if ended > 0 && ended == asked {
		var err error
		if m.server, err = m.fresh(); err != nil {
			return nil, err
		}
		if _, _, err = m.server.Do(context.Background(), m.endpoint, []byte(harmless[m.endpoint]), func([]byte) {}); err != nil {
			return nil, trouble{job.Broken, last}
		}
	}
	return out, nil
}

// harmless are requests that every server of a model survives.
var harmless = map[string]string{
	Embeddings: `{"input":"a"}`,
	Chat:       `{"messages":[{"role":"user","content":"a"}],"max_tokens":1}`,
}

// saying passes on the pieces of a streamed answer, each once: an answer that
// begins anew is silent until it is where it was.
type saying struct {
	tell  func(chunk []byte)
	asks  *asks    // what of the pieces was asked for; nil: all
	told  int      // pieces that were passed on
	was   gathered // of them
	now   gathered // of this attempt
	seen  int      // pieces of it
	other bool     // it is not what it was
	parts []saying // of an answer with several choices, one each
}

func (s *saying) begin() {
	s.now, s.seen = gathered{}, 0
}

func (s *saying) hear(chunk []byte) {
	s.now.add(chunk)
	if s.seen++; s.seen > s.told {
		s.told = s.seen
		s.was.add(chunk)
		if s.asks != nil {
			if plain, err := s.asks.silence(chunk); err == nil {
				chunk = plain
			}
		}
		if !s.other {
			s.tell(chunk)
		}
		return
	}
	if s.seen == s.told && !slices.Equal(s.now.texts(), s.was.texts()) {
		s.other = true
	}
}

// streamed reports whether the answer comes in pieces.
func (s *saying) streamed() bool { return s.seen > 0 }

// texts are what the choices say so far.
func (g gathered) texts() (out []string) {
	for _, c := range g.choices {
		out = append(out, c.Message.Content)
	}
	return out
}
