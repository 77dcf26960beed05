package localapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"idlewild/job"
)

// Code says what sort of trouble an Error is: the one field of it that
// programs branch on.
type Code string

const (
	CodeInvalid      Code = "invalid"       // the request itself is wrong
	CodeUnauthorized Code = "unauthorized"  // no token, or a wrong one
	CodeForbidden    Code = "forbidden"     // comes from where nobody may ask: a web page, another host
	CodeNotFound     Code = "not_found"     // no such endpoint
	CodeUnknownJob   Code = "unknown_job"   // no such job on this machine
	CodeTooLarge     Code = "too_large"     // body over MaxBodyBytes
	CodeRefused      Code = "refused"       // well asked, but it will not begin; Problems say why
	CodeFailed       Code = "failed"        // tried, and it went wrong
	CodeClosing      Code = "shutting_down" // the daemon is on its way out
)

// Error is every answer that is no success, as RFC 9457 problem details with a
// code and, for refusals, the problems that a person can mend.
type Error struct {
	Title    string              `json:"title" doc:"What the HTTP status means"`
	Status   int                 `json:"status" doc:"HTTP status"`
	Code     Code                `json:"code" doc:"What sort of trouble this is"`
	Detail   string              `json:"detail" doc:"What is wrong, for people"`
	Problems []job.Problem       `json:"problems,omitempty" doc:"Why a job was refused"`
	Errors   []*huma.ErrorDetail `json:"errors,omitempty" doc:"Which fields of the request are wrong"`
}

// Error implements error: one line for people.
func (e *Error) Error() string {
	var s []string
	for _, d := range e.Errors {
		if d.Location != "" {
			s = append(s, d.Location+": "+d.Message)
		} else {
			s = append(s, d.Message)
		}
	}
	if len(s) == 0 {
		return e.Detail
	}
	return e.Detail + ": " + strings.Join(s, "; ")
}

// Is lets callers ask for the errors of package job across the wire.
func (e *Error) Is(target error) bool {
	switch target {
	case job.ErrUnknownJob:
		return e.Code == CodeUnknownJob
	case job.ErrRefused:
		return e.Code == CodeRefused
	}
	return false
}

// GetStatus implements huma.StatusError.
func (e *Error) GetStatus() int { return e.Status }

// ContentType implements huma.ContentTypeFilter.
func (e *Error) ContentType(string) string { return "application/problem+json" }

var codes = map[int]Code{
	http.StatusUnauthorized:          CodeUnauthorized,
	http.StatusForbidden:             CodeForbidden,
	http.StatusNotFound:              CodeNotFound,
	http.StatusRequestEntityTooLarge: CodeTooLarge,
	http.StatusServiceUnavailable:    CodeClosing,
}

// newError makes an Error of a status and the fields that are wrong.
func newError(status int, detail string, errs ...error) *Error {
	e := &Error{Title: http.StatusText(status), Status: status, Detail: detail, Code: codes[status]}
	if e.Code == "" {
		e.Code = CodeInvalid
		if status >= 500 {
			e.Code = CodeFailed
		}
	}
	for _, err := range errs {
		var d huma.ErrorDetailer
		if errors.As(err, &d) {
			e.Errors = append(e.Errors, d.ErrorDetail())
		} else if err != nil {
			e.Errors = append(e.Errors, &huma.ErrorDetail{Message: err.Error()})
		}
	}
	return e
}

// huma has one hook for the shape of the errors it makes itself, and it is a
// package variable. This package is the only one here that uses huma.
func init() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return newError(status, msg, errs...)
	}
}

// answer turns an error of the farm's parts into one for the wire.
func answer(err error) error {
	if err == nil {
		return nil
	}
	var refused *job.RefusedError
	var already *Error
	switch {
	case errors.As(err, &already):
		return already
	case errors.As(err, &refused):
		e := newError(http.StatusUnprocessableEntity, refused.Error())
		e.Code, e.Problems = CodeRefused, refused.Problems
		return e
	case errors.Is(err, job.ErrRefused):
		e := newError(http.StatusUnprocessableEntity, err.Error())
		e.Code = CodeRefused
		e.Problems = []job.Problem{{Severity: job.SeverityError, Message: err.Error()}}
		return e
	case errors.Is(err, job.ErrUnknownJob):
		e := newError(http.StatusNotFound, err.Error())
		e.Code = CodeUnknownJob
		return e
	case errors.Is(err, context.Canceled):
		return newError(http.StatusServiceUnavailable, "stopped before it was done")
	}
	return newError(http.StatusInternalServerError, err.Error())
}

// asGo turns an Error from the wire back into what the caller of the same
// method in the daemon would have got.
func (e *Error) asGo() error {
	switch {
	case e.Code == CodeRefused && len(e.Problems) > 0:
		return &job.RefusedError{Problems: e.Problems}
	case e.Code == CodeUnauthorized:
		return fmt.Errorf("%w: %s", ErrToken, e.Detail)
	}
	return e
}

// invalid is the answer to a job that cannot be one.
func invalid(err error) error {
	if errors.Is(err, job.ErrRefused) {
		return answer(err)
	}
	return newError(http.StatusUnprocessableEntity, err.Error())
}
