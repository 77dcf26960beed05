package ai

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTemplatesThatSayTheDay(t *testing.T) {
	llama := `{%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}{%- endif %}{{ date_string }}`
	d := dayOf(llama)
	if !slices.Equal(d.formats, []string{"%d %b %Y"}) ||
		!strings.Contains(d.template, `date_string = (idlewild_day_0 if idlewild_day_0 is defined else strftime_now("%d %b %Y")) %}`) ||
		!strings.Contains(d.template, "if strftime_now is defined") {
		t.Errorf("%q, %q", d.formats, d.template)
	}
	d = dayOf(`Today is {{ strftime_now( '%A, %-d %B %Y' ) }}, {{ strftime_now('%Y') }}; {{strftime_now('%A, %-d %B %Y')}}`)
	if !slices.Equal(d.formats, []string{"%A, %-d %B %Y", "%Y"}) || strings.Count(d.template, "idlewild_day_0 if") != 2 {
		t.Errorf("%q, %q", d.formats, d.template)
	}
	body := map[string]json.RawMessage{"chat_template_kwargs": json.RawMessage(`{"enable_thinking":false}`)}
	if err := d.put(body, "2026-11-05"); err != nil {
		t.Fatal(err)
	}
	var given map[string]any
	if err := json.Unmarshal(body["chat_template_kwargs"], &given); err != nil || given["enable_thinking"] != false ||
		given["idlewild_day_0"] != "Thursday, 5 November 2026" || given["idlewild_day_1"] != "2026" {
		t.Errorf("%v, %v", given, err)
	}
	// What says no day, or in no form that is known, is left alone.
	for _, template := range []string{"", "{{ messages }}", "{{ strftime_now(form) }}", `{{ strftime_now("%Q") }}`, `{{ strftime_now("100%") }}`} {
		if d := dayOf(template); d.template != "" || len(d.formats) > 0 {
			t.Errorf("%q: %+v", template, d)
		}
	}
	for _, kwargs := range []string{"null", "3", ""} {
		body := map[string]json.RawMessage{"chat_template_kwargs": json.RawMessage(kwargs)}
		if err := d.put(body, "2026-11-05"); err != nil {
			t.Errorf("%q: %v", kwargs, err)
		}
		if kwargs == "3" && string(body["chat_template_kwargs"]) != "3" {
			t.Errorf("what is wrong with a request is for the server to say: %s", body["chat_template_kwargs"])
		}
	}
}

func TestStrftime(t *testing.T) {
	at := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	for form, want := range map[string]string{
		"%Y-%m-%d": "2026-03-04", "%d %b %Y": "04 Mar 2026", "%B %e, %Y": "March  4, 2026", "%j": "063", "%I:%M %p": "12:00 AM",
		"%a %%": "Wed %", "%D": "03/04/26", "": "",
	} {
		if got, ok := strftime(form, at); got != want || !ok {
			t.Errorf("%q: %q, %v", form, got, ok)
		}
	}
}
