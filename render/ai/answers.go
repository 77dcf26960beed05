package ai

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"idlewild/job"
	"idlewild/media"
)

// AnswersFile is where the answers to a batch of requests are delivered, in
// OpenAI's format and in the order of the requests.
const AnswersFile = "output.jsonl"

// Body makes the body of an answer of a record, as OpenAI's API has it. model is
// what the model is called, asked the body of the request.
func Body(endpoint, model string, asked json.RawMessage, rec media.Record, now time.Time) (json.RawMessage, error) {
	if rec.Error != "" {
		return nil, errors.New(rec.Error)
	}
	if endpoint == Embeddings {
		var a struct {
			Format     string `json:"encoding_format"`
			Dimensions int    `json:"dimensions"`
		}
		if len(asked) > 0 {
			if err := json.Unmarshal(asked, &a); err != nil {
				return nil, err
			}
		}
		return embeddingBody(model, a.Format, a.Dimensions, rec)
	}
	if endpoint == Images {
		return imagesBody(asked, rec, now)
	}
	t, ok := rec.Outputs[outBody]
	var body map[string]json.RawMessage
	if !ok || len(t.Text) != 1 {
		return nil, errors.New("the answer has no body")
	}
	if err := json.Unmarshal([]byte(t.Text[0]), &body); err != nil {
		return nil, fmt.Errorf("the answer's body: %w", err)
	}
	name := sha256.Sum256([]byte(t.Text[0]))
	out := struct {
		ID      string          `json:"id"`
		Object  string          `json:"object"`
		Created int64           `json:"created"`
		Model   string          `json:"model"`
		Choices json.RawMessage `json:"choices"`
		Usage   json.RawMessage `json:"usage,omitempty"`
	}{fmt.Sprintf("chatcmpl-%x", name[:12]), "chat.completion", now.Unix(), model, body["choices"], body["usage"]}
	return json.Marshal(out)
}

func embeddingBody(model, format string, dimensions int, rec media.Record) (json.RawMessage, error) {
	t := rec.Outputs[outEmbedding]
	if len(t.Shape) != 2 || t.Shape[0]*t.Shape[1] != len(t.Data) {
		return nil, errors.New("the answer has no embeddings")
	}
	d := t.Shape[1]
	if dimensions != 0 && dimensions != d {
		return nil, fmt.Errorf("the model's embeddings have %d dimensions, not %d", d, dimensions)
	}
	type one struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"`
	}
	list := make([]one, t.Shape[0])
	for i := range list {
		v := t.Data[i*d : (i+1)*d]
		list[i] = one{"embedding", i, nil}
		switch format {
		case "", "float":
			f := make([]float32, d)
			for k, x := range v {
				f[k] = float32(x)
			}
			list[i].Embedding = f
		case "base64":
			raw := make([]byte, 0, 4*d)
			for _, x := range v {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(x)))
			}
			list[i].Embedding = base64.StdEncoding.EncodeToString(raw)
		default:
			return nil, fmt.Errorf("encoding_format %q: float and base64 are known", format)
		}
	}
	tokens := 0
	if n := rec.Outputs[outTokens].Data; len(n) == 1 && n[0] >= 0 && n[0] < 1<<40 {
		tokens = int(n[0])
	}
	type usage struct {
		Prompt int `json:"prompt_tokens"`
		Total  int `json:"total_tokens"`
	}
	return json.Marshal(struct {
		Object string `json:"object"`
		Data   []one  `json:"data"`
		Model  string `json:"model"`
		Usage  usage  `json:"usage"`
	}{"list", list, model, usage{tokens, tokens}})
}

// batchLine is one line of a batch's output.
type batchLine struct {
	ID       string         `json:"id"`
	CustomID string         `json:"custom_id"`
	Response *batchResponse `json:"response"`
	Error    any            `json:"error"`
}

type batchResponse struct {
	Status    int             `json:"status_code"`
	RequestID string          `json:"request_id"`
	Body      json.RawMessage `json:"body"`
}

// joinAnswers writes the records of the predecessors as the output of a batch.
func (r request) joinAnswers(progress func(string, float64)) error {
	f, err := os.Create(filepath.Join(r.Out, recordsFile))
	if err != nil {
		return trouble{job.Broken, err}
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	now := time.Now()
	p := r.Params
	for i, dir := range r.Prior {
		in, err := os.Open(filepath.Join(dir, recordsFile))
		if err != nil {
			return err
		}
		err = media.ReadRecords(in, func(rec media.Record) error {
			line := batchLine{ID: fmt.Sprintf("batch_req_%d", rec.Item), CustomID: rec.ID, Response: &batchResponse{Status: 200, RequestID: fmt.Sprintf("req_%d", rec.Item)}}
			body, err := Body(p.Endpoint, p.Called, nil, rec, now)
			if err != nil {
				line.Response.Status = 400
				if body, err = json.Marshal(map[string]any{"error": map[string]any{
					"message": err.Error(), "type": "invalid_request_error", "param": nil, "code": nil,
				}}); err != nil {
					return err
				}
			}
			line.Response.Body = body
			b, err := json.Marshal(line)
			if err != nil {
				return err
			}
			w.Write(b)
			return w.WriteByte('\n')
		})
		in.Close()
		if err != nil {
			return err
		}
		progress("saving", float64(i+1)/float64(len(r.Prior)))
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return trouble{job.Broken, err}
	}
	return nil
}
