//go:build race

package forwarding

// raceDetector is true where the race detector runs, whose instrumentation
// makes values escape that otherwise do not.
const raceDetector = true
