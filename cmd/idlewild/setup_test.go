package main

import "testing"

// What lets a machine into a farm is told from a new farm's name.
func TestTicketText(t *testing.T) {
	for text, is := range map[string]bool{
		"idlewild1:AAAA": true, "idlewild12:AAAA": true, "IDLEWILD1:AAAA": true, "idlewild-open1:AAAA": true,
		"studio": false, "idlewild": false, "our idlewild1:": false,
	} {
		if ticketText.MatchString(text) != is {
			t.Errorf("%q: %v", text, !is)
		}
	}
}
