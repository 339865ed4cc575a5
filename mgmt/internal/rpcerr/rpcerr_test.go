package rpcerr

import (
	"errors"
	"fmt"
	"testing"
)

func TestError(t *testing.T) {
	e := New("data-exists", "/m:a[k='v']", "%s is there", "it")
	if got, want := e.Error(), "data-exists at /m:a[k='v']: it is there"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (&Error{Tag: "in-use"}).Error(); got != "in-use" {
		t.Errorf("%q", got)
	}
	many := Errors{e, {Tag: "in-use"}}
	if got, want := many.Error(), e.Error()+"\nin-use"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	wrapped := fmt.Errorf("commit: %w", many)
	var one *Error
	if !errors.As(wrapped, &one) || one != e {
		t.Error("errors.As does not find the first error")
	}
	var all Errors
	if !errors.As(wrapped, &all) || len(all) != 2 {
		t.Error("errors.As does not find the list")
	}
}
