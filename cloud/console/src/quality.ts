/** Owns what the OPC DA quality byte says: may a value be believed, and if not, why not. */

export type QualityGrade = "good" | "uncertain" | "bad";
export type QualityReason =
  | "good"
  | "goodOverride"
  | "goodAbove"
  | "goodBelow"
  | "badNonSpecific"
  | "badConfiguration"
  | "badNotConnected"
  | "badDevice"
  | "badSensor"
  | "badLastKnown"
  | "badComm"
  | "badOutOfService"
  | "badWaiting"
  | "uncertainNonSpecific"
  | "uncertainLastUsable"
  | "uncertainSensor"
  | "uncertainRange"
  | "uncertainSubnormal"
  | "stale";

/** OPC Data Access 3.0, 6.8: substatus in bits 2 to 7; the two lowest bits tell on which side a limit was passed. */
const REASONS: ReadonlyMap<number, QualityReason> = new Map([
  [0x00, "badNonSpecific"],
  [0x04, "badConfiguration"],
  [0x08, "badNotConnected"],
  [0x0c, "badDevice"],
  [0x10, "badSensor"],
  [0x14, "badLastKnown"],
  [0x18, "badComm"],
  [0x1c, "badOutOfService"],
  [0x20, "badWaiting"],
  [0x40, "uncertainNonSpecific"],
  [0x44, "uncertainLastUsable"],
  [0x50, "uncertainSensor"],
  [0x54, "uncertainRange"],
  [0x58, "uncertainSubnormal"],
  [0xc0, "good"],
  [0xd8, "goodOverride"],
]);

export function grade(quality: number): QualityGrade {
  const major = quality & 0xc0;
  return major === 0xc0 ? "good" : major === 0x40 ? "uncertain" : "bad";
}

export function reason(quality: number): QualityReason {
  // A good value beyond its range is believed (it may be the very danger), and said to be beyond it.
  if (grade(quality) === "good" && (quality & 0x03) === 0x02) return "goodAbove";
  if (grade(quality) === "good" && (quality & 0x03) === 0x01) return "goodBelow";
  const known = REASONS.get(quality & 0xfc);
  if (known !== undefined) return known;
  const g = grade(quality);
  return g === "good" ? "good" : g === "uncertain" ? "uncertainNonSpecific" : "badNonSpecific";
}
