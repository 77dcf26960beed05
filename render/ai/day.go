package ai

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Templates of chats may write today's date into every prompt: with
// strftime_now, which Hugging Face's library has for them and llama.cpp too. An
// answer that is read again after midnight, or in another time zone, would have
// another prompt than the one it was written for. So the day is the task's: in
// the model's template each call is replaced by a variable that is given with
// each request, where it is given.

// strftimeCall is a call whose format stands there.
var strftimeCall = regexp.MustCompile(`\bstrftime_now\(\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\)`)

// dated is a template that says the day of the task, and in which forms.
type dated struct {
	template string // "": it says no day
	formats  []string
}

// dayOf finds what a template says of the day. Forms that are not known here
// stay the server's.
func dayOf(template string) (d dated) {
	known := map[string]int{}
	out := strftimeCall.ReplaceAllStringFunc(template, func(call string) string {
		m := strftimeCall.FindStringSubmatch(call)
		form := m[1] + m[2]
		if _, ok := strftime(form, time.Time{}); !ok {
			return call
		}
		i, ok := known[form]
		if !ok {
			i = len(d.formats)
			known[form] = i
			d.formats = append(d.formats, form)
		}
		name := dayVariable(i)
		return fmt.Sprintf("(%s if %s is defined else %s)", name, name, call)
	})
	if len(d.formats) > 0 {
		d.template = out
	}
	return d
}

func dayVariable(i int) string { return fmt.Sprintf("idlewild_day_%d", i) }

// put has a request's prompt say that day, as time.DateOnly has it; "" leaves it
// to the server.
func (d dated) put(body map[string]json.RawMessage, day string) error {
	if day == "" || len(d.formats) == 0 {
		return nil
	}
	at, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return err
	}
	given := map[string]json.RawMessage{}
	if raw := body["chat_template_kwargs"]; len(raw) > 0 && json.Unmarshal(raw, &given) != nil {
		return nil // the server says what is wrong with them
	}
	if given == nil {
		given = map[string]json.RawMessage{} // they were null
	}
	for i, form := range d.formats {
		text, _ := strftime(form, at)
		if given[dayVariable(i)], err = json.Marshal(text); err != nil {
			return err
		}
	}
	body["chat_template_kwargs"], err = json.Marshal(given)
	return err
}

// today is the day of a job that begins now, for whoever sits here.
func today() string { return time.Now().Format(time.DateOnly) }

// layouts are C's conversions of strftime by Go's layouts, in the C locale.
var layouts = map[string]string{
	"%a": "Mon", "%A": "Monday", "%b": "Jan", "%h": "Jan", "%B": "January", "%d": "02", "%-d": "2", "%e": "_2", "%m": "01", "%-m": "1",
	"%y": "06", "%Y": "2006", "%j": "002", "%D": "01/02/06", "%F": "2006-01-02", "%x": "01/02/06", "%H": "15", "%I": "03", "%-I": "3", "%M": "04",
	"%S": "05", "%p": "PM", "%R": "15:04", "%T": "15:04:05", "%X": "15:04:05", "%r": "03:04:05 PM", "%c": "Mon Jan _2 15:04:05 2006",
}

var conversion = regexp.MustCompile(`%-?.`)

// strftime formats a moment as C does. ok is false where a conversion is not known.
func strftime(form string, at time.Time) (text string, ok bool) {
	ok = true
	text = conversion.ReplaceAllStringFunc(form, func(c string) string {
		if c == "%%" {
			return "%"
		}
		layout, known := layouts[c]
		ok = ok && known
		return at.Format(layout)
	})
	return text, ok && !strings.HasSuffix(conversion.ReplaceAllString(form, ""), "%")
}
