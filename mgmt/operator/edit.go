package operator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"vita/mgmt/internal/schema"
)

// Editing is what Edit needs of whoever edits.
type Editing struct {
	// Open lets somebody edit a file, and returns when that is done.
	Open func(ctx context.Context, file string) error

	// Again tells of errors and asks whether to go on editing. staged says that
	// what was written is in the candidate all the same.
	Again func(problem error, staged bool) bool
}

const editHead = `// The candidate configuration. Secrets are not shown: one that you do not
// write here stays as it is. Save and leave the editor to stage your changes;
// leave it without a change to stage nothing.
`

// ErrNotStaged says that an edit was given up before anything was staged.
var ErrNotStaged = errors.New("nothing was staged")

// Edit has the candidate edited as a text in Vita's format, and stages what was
// changed. It returns what is staged then.
//
// Nothing that others have staged meanwhile is overwritten. A text that cannot be
// staged is kept in a file, whose name is in the error, if editing is given up.
func (c *Client) Edit(ctx context.Context, e Editing) (diff []string, err error) {
	dir, err := os.MkdirTemp("", "vitactl-")
	if err != nil {
		return nil, err
	}
	keep := false
	defer func() {
		if !keep {
			_ = os.RemoveAll(dir) // what is left of a temporary directory hurts nobody
		}
	}()
	file := filepath.Join(dir, "candidate.conf")
	text, tag, err := c.candidateText(ctx)
	if err != nil {
		return nil, err
	}
	base, err := readText(text)
	if err != nil {
		return nil, fmt.Errorf("the candidate cannot be written as a text: %w", err)
	}
	head := editHead
	for {
		if err := os.WriteFile(file, []byte(head+"\n"+text), 0o600); err != nil {
			return nil, err
		}
		if err := e.Open(ctx, file); err != nil {
			return nil, fmt.Errorf("the editor: %w", err)
		}
		edited, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		text = strings.TrimPrefix(string(edited), head)
		text = strings.TrimPrefix(text, "\n")
		problem, staged := c.stage(ctx, base, text, tag)
		if problem == nil {
			return c.Staged(ctx)
		}
		if !e.Again(problem, staged) {
			if staged {
				return nil, problem
			}
			keep = true
			return nil, fmt.Errorf("%w: %w\nwhat you wrote is in %s", ErrNotStaged, problem, file)
		}
		head = editHead
		for line := range strings.SplitSeq(problem.Error(), "\n") {
			head += "// ERROR: " + line + "\n"
		}
		var shown string
		if shown, tag, err = c.candidateText(ctx); err != nil {
			return nil, err
		}
		if !staged { // what was changed is still to be staged, on top of what others have
			continue
		}
		if base, err = readText(shown); err != nil {
			return nil, err
		}
	}
}

// stage brings what was changed in a text into the candidate, and validates that.
func (c *Client) stage(ctx context.Context, base *element, text, tag string) (problem error, staged bool) {
	edited, err := readText(text)
	if err != nil {
		return err, false
	}
	diff := compare(base, edited)
	if diff.empty() {
		return nil, true
	}
	if _, _, err := c.ask(ctx, http.MethodPatch, candidate, mediaPatch, diff.patch(), tag); err != nil {
		return located(err, edited), false
	}
	return located(c.Validate(ctx), edited), true
}

const mediaPatch = "application/yang-patch+xml"

// located adds the lines of a text to what the gateway says of it.
func located(err error, text *element) error {
	all, ok := errors.AsType[Refused](err)
	if !ok {
		return err
	}
	var out []error
	for _, p := range all {
		if line := text.where(p.Path); line > 0 {
			out = append(out, &LineError{Line: line, Path: p.Path, Err: errors.New(p.Message)})
		} else {
			out = append(out, Refused{p})
		}
	}
	return errors.Join(out...)
}

// candidateText returns the candidate in Vita's format, and its entity tag.
func (c *Client) candidateText(ctx context.Context) (text, tag string, err error) {
	body, tag, err := c.ask(ctx, http.MethodGet, candidate, "", nil, "")
	if err != nil {
		return "", "", err
	}
	text, err = rootText(body)
	return text, tag, err
}

// rootText writes the data resource in Vita's format.
func rootText(body []byte) (string, error) {
	inner, err := unwrap(body)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = writeText(&b, schema.Root(), inner, "")
	return b.String(), err
}

// Text returns a datastore in Vita's format, without secrets.
func (c *Client) Text(ctx context.Context, from Source) (string, error) {
	_, body, err := c.Get(ctx, from, "")
	if err != nil {
		return "", err
	}
	return rootText(body)
}

// Import stages a configuration in Vita's format: merged into the candidate, or
// in the place of what the candidate has of the gateway's own modules, so that users
// and rules of access, of which Vita knows nothing, stay. Errors name line and path.
func (c *Client) Import(ctx context.Context, text string, replace bool) error {
	root, err := readText(text)
	if err != nil {
		return err
	}
	if len(root.children) == 0 {
		return errors.New("there is no configuration in it")
	}
	base := &element{}
	if replace {
		shown, _, err := c.candidateText(ctx)
		if err != nil {
			return err
		}
		all, err := readText(shown)
		if err != nil {
			return err
		}
		for _, e := range all.children {
			if strings.HasPrefix(e.schema.Module, "vita-") {
				base.add(e)
			}
		}
	}
	diff := compare(base, root)
	if diff.empty() {
		return nil
	}
	_, err = c.do(ctx, http.MethodPatch, candidate, mediaPatch, diff.patch())
	return located(err, root)
}

// Staged returns what a commit would change.
func (c *Client) Staged(ctx context.Context) ([]string, error) {
	before, _, err := c.Get(ctx, Running, "")
	if err != nil {
		return nil, err
	}
	after, _, err := c.Get(ctx, Candidate, "")
	if err != nil {
		return nil, err
	}
	return Diff(before, after), nil
}
