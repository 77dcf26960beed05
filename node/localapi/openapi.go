package localapi

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// spoken describes an endpoint of OpenAI's API, which huma does not serve: it
// would refuse the many fields that mean nothing here.
type spoken struct {
	id, summary string
	request     *huma.RequestBody // nil: it has none
	answer      reflect.Type      // of its JSON; nil: bytes of a file
	stream      bool              // it may answer in server-sent events
	query       []string
	refused     bool // always
}

// speak serves an endpoint of OpenAI's API and puts it into the document.
func (h *Handler) speak(mux *http.ServeMux, pattern string, s spoken, f http.HandlerFunc) {
	mux.HandleFunc(pattern, f)
	method, path, _ := strings.Cut(strings.ReplaceAll(pattern, "...", ""), " ")
	schemas := h.api.OpenAPI().Components.Schemas
	content := map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	if s.answer != nil {
		content = map[string]*huma.MediaType{"application/json": {Schema: schemas.Schema(s.answer, true, "")}}
	}
	if s.stream {
		content["text/event-stream"] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Description: "Pieces as JSON, one an event; data: [DONE] ends them"}}
	}
	op := &huma.Operation{
		OperationID: s.id, Method: method, Path: path, Summary: s.summary, Tags: []string{"OpenAI"}, RequestBody: s.request,
		Responses: map[string]*huma.Response{
			"200":     {Description: "OK", Content: content},
			"default": {Description: "Error", Content: map[string]*huma.MediaType{"application/json": {Schema: schemas.Schema(typeOf[askBody](), true, "")}}},
		},
	}
	if s.refused {
		delete(op.Responses, "200")
	}
	for _, part := range strings.Split(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			op.Parameters = append(op.Parameters, &huma.Param{
				Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString},
			})
		}
	}
	for _, name := range s.query {
		op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "query", Schema: &huma.Schema{Type: huma.TypeString}})
	}
	h.api.OpenAPI().AddOperation(op)
}

// fields is an object of which other fields than those here are ignored.
func fields(required []string, f map[string]*huma.Schema) *huma.RequestBody {
	return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json": {Schema: &huma.Schema{Type: huma.TypeObject, Required: required, Properties: f, AdditionalProperties: true}},
	}}
}

func ofType(kind, description string) *huma.Schema {
	return &huma.Schema{Type: kind, Description: description}
}

var (
	askedModelName = ofType(huma.TypeString, "As GET /v1/models names it")
	askedOf        = map[string]*huma.RequestBody{
		pathEmbeddings: fields([]string{"model", "input"}, map[string]*huma.Schema{
			"model":           askedModelName,
			"input":           {Description: "A text, several, or their tokens"},
			"encoding_format": {Type: huma.TypeString, Enum: []any{"float", "base64"}},
			"dimensions":      ofType(huma.TypeInteger, "The model's own or none"),
		}),
		pathChat: fields([]string{"model", "messages"}, map[string]*huma.Schema{
			"model":       askedModelName,
			"messages":    {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}},
			"stream":      ofType(huma.TypeBoolean, "Answer in server-sent events"),
			"max_tokens":  ofType(huma.TypeInteger, ""),
			"temperature": ofType(huma.TypeNumber, ""),
			"seed":        ofType(huma.TypeInteger, "One is drawn where there is none"),
		}),
		pathImages: fields([]string{"model", "prompt"}, map[string]*huma.Schema{
			"model":           askedModelName,
			"prompt":          ofType(huma.TypeString, ""),
			"n":               ofType(huma.TypeInteger, "At most 10"),
			"size":            ofType(huma.TypeString, "As 512x512, which it is where nothing is said"),
			"response_format": {Type: huma.TypeString, Enum: []any{"b64_json"}},
			"seed":            ofType(huma.TypeInteger, "One is drawn where there is none"),
			"negative_prompt": ofType(huma.TypeString, "What is not to be seen"),
			"steps":           ofType(huma.TypeInteger, "30 where nothing is said"),
			"guidance":        ofType(huma.TypeNumber, ""),
		}),
	}
	batchAsked = fields([]string{"input_file_id", "endpoint"}, map[string]*huma.Schema{
		"input_file_id":     ofType(huma.TypeString, "Of POST "+pathFiles),
		"endpoint":          {Type: huma.TypeString, Enum: []any{pathEmbeddings, pathChat, pathImages}},
		"completion_window": ofType(huma.TypeString, "Ignored"),
		"metadata":          {Type: huma.TypeObject, AdditionalProperties: true},
	})
	fileAsked = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"multipart/form-data": {Schema: &huma.Schema{
		Type: huma.TypeObject, Required: []string{"purpose", "file"}, Properties: map[string]*huma.Schema{
			"purpose": {Type: huma.TypeString, Enum: []any{"batch"}},
			"file":    {Type: huma.TypeString, Format: "binary", Description: "JSON lines, one request each"},
		},
	}}}}
)

// Objects of OpenAI's API that are made of texts, for the document.
type (
	embeddingsObject struct {
		Object string `json:"object"`
		Data   []struct {
			Object    string `json:"object"`
			Index     int    `json:"index"`
			Embedding any    `json:"embedding" doc:"Numbers, or base64 of little-endian 32-bit floats"`
		} `json:"data"`
		Model    string         `json:"model"`
		Usage    map[string]int `json:"usage"`
		Idlewild AnswerVerdict  `json:"idlewild"`
	}
	chatObject struct {
		ID       string           `json:"id"`
		Object   string           `json:"object"`
		Created  int64            `json:"created"`
		Model    string           `json:"model"`
		Choices  []map[string]any `json:"choices"`
		Usage    map[string]any   `json:"usage,omitempty"`
		Idlewild AnswerVerdict    `json:"idlewild"`
	}
	imageObject struct {
		B64 string `json:"b64_json" doc:"A PNG"`
	}
	imagesObject struct {
		Created  int64         `json:"created"`
		Data     []imageObject `json:"data"`
		Format   string        `json:"output_format"`
		Size     string        `json:"size"`
		Seed     int64         `json:"seed,omitempty" doc:"Of the first picture; each after it has the next number"`
		Idlewild AnswerVerdict `json:"idlewild"`
	}
	deletedObject struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Deleted bool   `json:"deleted"`
	}
)

var spokenOf = map[string]spoken{
	pathEmbeddings: {id: "embeddings", summary: "Embeddings of texts", request: askedOf[pathEmbeddings], answer: typeOf[embeddingsObject]()},
	pathChat:       {id: "chat", summary: "An answer in a chat", request: askedOf[pathChat], answer: typeOf[chatObject](), stream: true},
	pathImages:     {id: "images", summary: "Pictures of words", request: askedOf[pathImages], answer: typeOf[imagesObject]()},
}
