//go:build race

package lpm

const raceDetector = true
