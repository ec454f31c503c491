"""Instruction tasks made from one tune by rule: each answer follows from the notation, none from a remark."""
