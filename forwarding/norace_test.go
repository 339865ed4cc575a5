//go:build !race

package forwarding

const raceDetector = false
